"""The slow network of distillation: an exponential moving average, its momentum's schedule, and DINO's centre."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .._checks import accumulation_dtype, fail, number, wrong_type
from ..autocast import without_autocast
from .checks import at_least, prototypes_of, share, views_of


def cosine_schedule(step: int, steps: int, *, start: float = 0.996, end: float = 1.0) -> float:
    """Half a cosine from `start` at step 0 to `end` at `steps`, and `end` after: BYOL's momentum (arXiv 2006.07733, appendix J).

        end − (end − start)·(cos(π·step/steps) + 1)/2

    step   int ≥ 0
    steps  int ≥ 1

    Raises ValueError or TypeError naming the argument at fault.

    >>> [jk.er.cosine_schedule(step, 2, start=0.9, end=1.0) for step in range(3)]
    [0.9, 0.95, 1.0]
    """
    function = "cosine_schedule"
    step, steps = at_least(function, "step", step, 0), at_least(function, "steps", steps, 1)
    start, end = number(function, "start", start), number(function, "end", end)
    done = min(step / steps, 1.0)
    return end - (end - start) * (math.cos(math.pi * done) + 1) / 2


class EMATeacher(nn.Module):
    """A slow copy of a network: after each step every parameter moves to m·itself + (1 − m)·the student's.

    student   the module to copy; the copy requires no gradient, and calling the teacher makes none
    momentum  m at the start, 0 ≤ m ≤ 1
    steps     None for a constant m, or the number of updates over which `cosine_schedule` raises it to 1

    Buffers (the statistics of batch normalisation) are copied at each update. The copy has the mode that the student had: call
    `train()` or `eval()` on the teacher as on any module. The `state_dict` holds the number of updates.

    Raises ValueError or TypeError naming the argument at fault.

    >>> teacher = jk.er.EMATeacher(encoder, momentum=0.99)
    >>> target = teacher(view2)                                      # without gradient
    >>> teacher.update(encoder)                                      # after optimizer.step()
    """

    def __init__(self, student: nn.Module, momentum: float = 0.996, *, steps: int | None = None):
        super().__init__()
        if not isinstance(student, nn.Module):
            wrong_type("EMATeacher", "student", student, "must be a module")
        self.start = share("EMATeacher", "momentum", momentum)
        self.steps = None if steps is None else at_least("EMATeacher", "steps", steps, 1)
        self.network = copy.deepcopy(student).requires_grad_(False)
        self.updates = 0  # on the host, so that nothing waits for a device

    @property
    def momentum(self) -> float:
        """m of the next update."""
        return self.start if self.steps is None else cosine_schedule(self.updates, self.steps, start=self.start)

    @torch.no_grad()
    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What the copy makes of these inputs, without a gradient."""
        return self.network(*inputs, **named)

    @torch.compiler.disable()  # the momentum of a schedule would give a new program in every step
    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """One step towards the student.

        Raises ValueError for a student of other parameters or shapes.
        """
        for kind in ("parameters", "buffers"):
            held, given = (dict(getattr(module, f"named_{kind}")()) for module in (self.network, student))
            if held.keys() != given.keys():
                other = ", ".join(sorted(held.keys() ^ given.keys())[:3])
                fail(
                    "EMATeacher.update", "student", f"of other {kind} ({other})", "must be the network that was copied"
                )
            for name, value in held.items():
                if value.shape != given[name].shape:
                    shape, must = tuple(given[name].shape), tuple(value.shape)
                    fail("EMATeacher.update", "student", f"of {name} {shape}", f"must have {must} like the teacher")
        slow: list[Tensor] = [*self.network.parameters()]
        quick = [p.detach().to(s) for s, p in zip(slow, student.parameters(), strict=True)]
        if slow:
            torch._foreach_lerp_(slow, quick, 1 - self.momentum)
        for held, given in zip(self.network.buffers(), student.buffers(), strict=True):
            held.copy_(given)
        self.updates += 1

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.updates)

    def set_extra_state(self, state: Tensor) -> None:
        self.updates = int(state)

    def extra_repr(self) -> str:
        return f"momentum={self.start}, steps={self.steps}, updates={self.updates}"


class Center(nn.Module):
    """The running mean of a teacher's scores, which DINO takes off them (arXiv 2104.14294, eq. 4).

        value ← m·value + (1 − m)·mean_i ⟨t_i, c'_k⟩

    The mean of the scores is the score of the mean embedding, so no matrix of scores is made.

    count     the number of prototypes, ≥ 2
    momentum  m, 0 ≤ m ≤ 1

    Raises ValueError or TypeError naming the argument at fault.

    >>> center = jk.er.Center(4, momentum=0.5)
    >>> center.update([torch.eye(4)], torch.eye(4))
    >>> center.value
    tensor([0.1250, 0.1250, 0.1250, 0.1250])
    """

    value: Tensor

    def __init__(self, count: int, momentum: float = 0.9):
        super().__init__()
        count, self.momentum = at_least("Center", "count", count, 2), share("Center", "momentum", momentum)
        self.register_buffer("value", torch.zeros(count))

    @torch.no_grad()
    def update(self, teachers: Sequence[Tensor], prototypes: Tensor, *, normalize: bool = True) -> None:
        """Count in the teacher's embeddings of a batch, a list of (N, D), and its prototypes (K, D).

        Raises ValueError or TypeError naming the argument at fault.
        """
        function = "Center.update"
        views = views_of(function, "teachers", teachers, least=1)
        prototypes_of(function, "prototypes", prototypes, ("teachers[0]", views[0]), count=len(self.value))
        dtype = accumulation_dtype(views[0].dtype)
        rows = [torch.nn.functional.normalize(z.to(dtype), dim=1) if normalize else z.to(dtype) for z in views]
        mean = torch.stack([z.mean(dim=0) for z in rows]).mean(dim=0)
        with without_autocast(mean.device):
            scores = prototypes.to(dtype) @ mean
        self.value.lerp_(scores.to(self.value.dtype), 1 - self.momentum)

    def extra_repr(self) -> str:
        return f"{len(self.value)}, momentum={self.momentum}"
