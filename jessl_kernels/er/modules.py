"""The objectives as modules: what they hold from step to step (widths, prototypes, queues, a centre), and their options."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .._checks import choice, fail, flag, positive
from ..literals import ER_KERNELS, ESTIMATORS, ERKernel, Estimator
from .bound import ERBound, bound, width_of
from .checks import at_least, share
from .clustering import swav, swav_er
from .distillation import byol, byol_er, dino, dino_er
from .teacher import Center


class _Loss(nn.Module):
    """A module whose call returns a tensor, as type checkers do not know of modules."""

    if TYPE_CHECKING:
        __call__: Callable[..., Tensor]


class ER(_Loss):
    """Minus the ER bound, `loss`, with held widths of its two densities: SimCLR-ER.

    concentration  κ of kernel="vmf" at the start, > 0
    bandwidth      h of kernel="gaussian" at the start, > 0
    learnable      learn both widths, that of the entropy's kernel and that of q
    kernel, estimator, symmetric   as in `loss`

    The entropy's estimate errs upwards, so its kernel is learnt by *lowering* it, against the loss (its gradient has the other
    sign), which is maximum leave-one-out likelihood. q is learnt by raising its likelihood, with the loss.

    Raises ValueError or TypeError naming the argument at fault.

    >>> objective = jk.er.ER(10.0, learnable=True)
    >>> objective(z1, z2).backward()
    """

    log_width: Tensor
    log_q_width: Tensor

    def __init__(
        self,
        concentration: float | None = None,
        *,
        bandwidth: float | None = None,
        learnable: bool = False,
        kernel: ERKernel = "vmf",
        estimator: Estimator = "loo",
        symmetric: bool = True,
    ):
        super().__init__()
        function = "ER"
        choice(function, "kernel", kernel, ER_KERNELS)
        choice(function, "estimator", estimator, ESTIMATORS)
        width = width_of(function, kernel, (concentration, "concentration"), (bandwidth, "bandwidth"))
        self.width_name = "concentration" if kernel == "vmf" else "bandwidth"
        log_width = torch.full((), math.log(positive(function, self.width_name, width)))
        self.learnable = flag(function, "learnable", learnable)
        for name in ("log_width", "log_q_width"):
            if learnable:
                self.register_parameter(name, nn.Parameter(log_width.clone()))
            else:
                self.register_buffer(name, log_width.clone())
        self.options: dict[str, Any] = {"kernel": kernel, "estimator": estimator}
        self.symmetric = flag(function, "symmetric", symmetric)

    @property
    def width(self) -> Tensor:
        """κ or h of the entropy's kernel in force, 0-d."""
        return self.log_width.exp()

    @property
    def q_width(self) -> Tensor:
        """κ or h of q in force, 0-d."""
        return self.log_q_width.exp()

    def bound(self, z1: Tensor, z2: Tensor) -> ERBound:
        """The bound and its parts, with the gradients of the loss, whose sign is the other one."""
        # The same number, with the other sign to its gradient.
        width = 2 * self.width.detach() - self.width
        widths: dict[str, Any] = {self.width_name: width, f"q_{self.width_name}": self.q_width}
        return bound(z1, z2, symmetric=self.symmetric, **widths, **self.options)

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """(N, D), (N, D) → loss."""
        return -self.bound(z1, z2).value

    def extra_repr(self) -> str:
        width, q_width = (f"{w.detach().item():.4g}" for w in (self.width, self.q_width))
        return f"{self.width_name}={width}, q_{self.width_name}={q_width}, learnable={self.learnable}, " + ", ".join(
            f"{name}={value!r}" for name, value in self.options.items()
        )


class Prototypes(_Loss):
    """(K, D) unit rows that are learnt: calling it divides each by its norm, in place and outside of the graph, and returns them.

    count  K ≥ 2
    dim    D ≥ 1

    Call it once in a step, before the loss. Raises ValueError or TypeError naming the argument at fault.

    >>> prototypes = jk.er.Prototypes(8, 5)
    >>> loss = jk.er.swav([z1, z2], prototypes())
    """

    def __init__(self, count: int, dim: int):
        super().__init__()
        count, dim = at_least("Prototypes", "count", count, 2), at_least("Prototypes", "dim", dim, 1)
        self.weight = nn.Parameter(nn.functional.normalize(torch.randn(count, dim), dim=1))

    @torch.no_grad()
    def _to_sphere(self) -> None:
        self.weight.div_(torch.linalg.vector_norm(self.weight, dim=1, keepdim=True))

    def forward(self) -> Tensor:
        """The weight, its rows unit vectors."""
        self._to_sphere()
        return self.weight

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.weight.shape))


class SwAV(_Loss):
    """`swav` with its prototypes and a queue of embeddings for each view, or `swav_er` with its prototypes.

    count        the number of prototypes, K ≥ 2
    dim          D ≥ 1
    er           take `swav_er`, which has no Sinkhorn and no queue
    queue        the number of embeddings of earlier batches that Sinkhorn sees for each view; 0 for none
    views        of a call, each of which has a queue
    iterations   of Sinkhorn, ≥ 1; None for 3
    temperature, epsilon, normalize   as in `swav`

    Raises ValueError or TypeError naming the argument at fault.

    >>> objective = jk.er.SwAV(8, 5)
    >>> objective([z1, z2]).backward()
    """

    queues: Tensor

    def __init__(
        self,
        count: int,
        dim: int,
        *,
        er: bool = False,
        queue: int = 0,
        views: int = 2,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        iterations: int | None = None,
        normalize: bool = True,
    ):
        super().__init__()
        function = "SwAV"
        self.prototypes = Prototypes(at_least(function, "count", count, 2), at_least(function, "dim", dim, 1))
        self.er = flag(function, "er", er)
        if at_least(function, "queue", queue, 0) and er:
            fail(function, "queue", queue, "must be 0 with er=True")
        at_least(function, "views", views, 2)
        self.options: dict[str, Any] = {
            "temperature": positive(function, "temperature", temperature),
            "epsilon": positive(function, "epsilon", epsilon),
            "normalize": flag(function, "normalize", normalize),
        }
        if er and iterations is not None:
            fail(function, "iterations", iterations, "must be None with er=True, which has no Sinkhorn")
        if not er:
            self.options["iterations"] = 3 if iterations is None else at_least(function, "iterations", iterations, 1)
        self.register_buffer("queues", torch.zeros(views, queue, dim))
        self.filled = 0  # on the host, so that nothing waits for a device

    def forward(self, views: Sequence[Tensor], local: Sequence[Tensor] = ()) -> Tensor:
        """A list of (N, D), and another of small crops → loss. In training a queue takes the batch in, after the loss."""
        prototypes = self.prototypes()
        if self.er:
            return swav_er(views, prototypes, local=local, **self.options)
        queue = self._earlier(views) if self.queues.shape[1] else None
        value = swav(views, prototypes, local=local, queue=queue, **self.options)
        if queue is not None and self.training:
            self._enqueue(views)
        return value

    @torch.compiler.disable()  # the filled length would give a new program in every step
    def _earlier(self, views: Sequence[Tensor]) -> list[Tensor]:
        if len(views) != len(self.queues):
            fail("SwAV", "views", f"a list of {len(views)}", f"must be one of {len(self.queues)}, as many as queues")
        return [held[: self.filled].to(views[0].dtype) for held in self.queues]

    @torch.compiler.disable()
    @torch.no_grad()
    def _enqueue(self, views: Sequence[Tensor]) -> None:
        size = self.queues.shape[1]
        for number, z in enumerate(views):
            # The newest first, so that rows of all queues stay in step.
            self.queues[number] = torch.cat([z.to(self.queues.dtype), self.queues[number]])[:size]
        self.filled = min(size, self.filled + len(views[0]))

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.filled)

    def set_extra_state(self, state: Tensor) -> None:
        self.filled = int(state)

    def extra_repr(self) -> str:
        return ", ".join([f"er={self.er}", f"queue={self.queues.shape[1]}", *_listed(self.options)])


class BYOL(_Loss):
    """`byol`, or `byol_er` with a held concentration.

    concentration  κ > 0 of the ER form; None for BYOL itself

    Raises ValueError or TypeError naming the argument at fault.

    >>> loss = jk.er.BYOL()([z1, z2], [x, y])
    """

    def __init__(self, concentration: float | None = None):
        super().__init__()
        self.concentration = None if concentration is None else positive("BYOL", "concentration", concentration)

    def forward(
        self, predictions: Sequence[Tensor], targets: Sequence[Tensor], projections: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Lists of (N, D) → loss; projections as in `byol_er`."""
        if self.concentration is not None:
            return byol_er(predictions, targets, concentration=self.concentration, projections=projections)
        if projections is not None:
            fail("BYOL", "projections", "given", "must be None without a concentration: BYOL has no entropy")
        return byol(predictions, targets)

    def extra_repr(self) -> str:
        return f"concentration={self.concentration}"


class DINO(_Loss):
    """`dino` with its centre, or `dino_er`, which has none.

    count     the number of prototypes, K ≥ 2
    er        take `dino_er`
    momentum  of the centre, 0 ≤ m ≤ 1
    temperature, teacher_temperature, normalize   as in `dino`

    In training the centre takes the batch in after the loss, as in the paper. Raises ValueError or TypeError naming the argument
    at fault.

    >>> prototypes = jk.er.Prototypes(8, 5)
    >>> loss = jk.er.DINO(8)([z1, z2], [x, y], prototypes(), prototypes())
    """

    def __init__(
        self,
        count: int,
        *,
        er: bool = False,
        momentum: float = 0.9,
        temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        normalize: bool = True,
    ):
        super().__init__()
        function = "DINO"
        self.count, momentum = at_least(function, "count", count, 2), share(function, "momentum", momentum)
        self.center = None if flag(function, "er", er) else Center(self.count, momentum)
        self.options: dict[str, Any] = {
            "temperature": positive(function, "temperature", temperature),
            "normalize": flag(function, "normalize", normalize),
        }
        self.teacher_temperature = positive(function, "teacher_temperature", teacher_temperature)

    def forward(
        self,
        students: Sequence[Tensor],
        teachers: Sequence[Tensor],
        prototypes: Tensor,
        teacher_prototypes: Tensor,
        teacher_temperature: float | None = None,
    ) -> Tensor:
        """Lists of (N, D), and two (K, D) → loss; a teacher_temperature in place of the held one, for its warm-up."""
        for name, keys in (("prototypes", prototypes), ("teacher_prototypes", teacher_prototypes)):
            if isinstance(keys, Tensor) and len(keys) != self.count:
                fail("DINO", name, f"of shape {tuple(keys.shape)}", f"must have {self.count} rows, the count")
        given = self.teacher_temperature if teacher_temperature is None else teacher_temperature
        options = {**self.options, "teacher_temperature": given}
        if self.center is None:
            return dino_er(students, teachers, prototypes, teacher_prototypes, **options)
        value = dino(students, teachers, prototypes, teacher_prototypes, center=self.center.value, **options)
        if self.training:
            self.center.update(teachers, teacher_prototypes, normalize=options["normalize"])
        return value

    def extra_repr(self) -> str:
        return ", ".join([f"er={self.center is None}", *_listed(self.options)])


def _listed(options: dict[str, Any]) -> list[str]:
    return [f"{name}={value!r}" for name, value in options.items()]
