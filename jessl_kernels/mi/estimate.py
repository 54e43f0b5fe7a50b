"""A bound on the mutual information of a sample: its critic is trained on a part of the pairs, and the bound is read off another."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .._checks import choice, fail, flag, integer, number, positive, wrong_type
from ..literals import BOUND_NAMES, BoundName, CriticName
from .networks import beside, critic_for
from .objectives import Objective, Options
from .progress import bar
from .result import Estimate
from .samples import split, standardised, table
from .training import train

if TYPE_CHECKING:
    from numpy import ndarray
    from typing_extensions import Unpack

DTYPES = (torch.float32, torch.float64)


def estimate(
    x: Tensor | ndarray,
    y: Tensor | ndarray,
    bound: BoundName = "info_nce",
    critic: CriticName | nn.Module | None = None,
    *,
    batch_size: int = 256,
    held_out: float = 0.2,
    learning_rate: float = 5e-4,
    max_steps: int = 5000,
    patience: int = 10,
    standardize: bool = True,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    progress: bool | None = None,
    **options: Unpack[Options],
) -> Estimate:
    """Train a critic on pairs, and report the bound on pairs that it has never seen. In nats.

    The pairs are split at random. `held_out`·N of them give the value. As many, and no more than 32 blocks, decide when the training
    stops and which of its states is taken. The rest train. So the value has no bias of selection, and its interval is of the
    bound with that critic. A lower bound may lie far below the information: after too little training, of too small
    a sample, and of "info_nce" always below log K.

    The bound "club" is trained by the likelihood of its model q(y|x), which stands in the critic's place.

    x, y           (N, D_x) and (N, D_y), or (N,) for one column: float tensors or NumPy arrays, row i of both a pair
    bound          the bound; "ksg" is none, but an estimate by neighbours: `jk.mi.ksg`
    critic         "inner_product", "bilinear", "separable" (also None) or "joint"; or a module, a `jk.mi.critics.Critic` or any
                   f(x_block, y_block) → scores (n, m), whose copy is trained and which stays as it is; of "club" a module x → (mean, log_std)
    batch_size     pairs of a mini-batch, and of a block of the bound, K
    held_out       share of the pairs, between 0 and ½
    learning_rate  of Adam
    max_steps      steps at most
    patience       evaluations, each 100 steps or an epoch, without a better loss on the stopping split, after which training stops
    standardize    columns less their mean, by their standard deviation, which leaves the information as it is
    seed           of the split, the networks and the batches; the same seed gives the same bits on as many threads, and the
                   global generators of random numbers stay as they are
    device         where to train; None: where x is
    dtype          torch.float32 or torch.float64 of the training, to which x and y are cast
    progress       a bar; None: on a terminal, if rich is installed
    options        of `jk.mi.Objective`: alpha, tau, decay, leave_out, baseline, u. A baseline of "tuba" and "interpolated" and
                   the u of "flo" are networks unless given

    Raises ValueError or TypeError naming the argument at fault, and RuntimeError with the step if the training comes apart.

    >>> x = torch.randn(4000, 3)
    >>> jk.mi.estimate(x, x + torch.randn(4000, 3), batch_size=64)         # 3/2 log 2 = 1.04
    """
    function, begun = "estimate", time.perf_counter()
    if bound == "ksg":
        fail(function, "bound", "'ksg'", "which is no bound and has no critic: call jk.mi.ksg(x, y)")
    choice(function, "bound", bound, BOUND_NAMES)
    x, y = table(function, "x", x), table(function, "y", y)
    if len(x) != len(y):
        fail(function, "y", f"of {len(y)} rows", f"must have {len(x)} like x: row i of both is a pair")
    batch_size = _at_least(function, "batch_size", batch_size, 2)
    max_steps, patience = (_at_least(function, *named, 1) for named in (("max_steps", max_steps), ("patience", patience)))
    seed = _at_least(function, "seed", seed, 0)
    learning_rate = positive(function, "learning_rate", learning_rate)
    if not 0 < number(function, "held_out", held_out) < 0.5:
        fail(function, "held_out", held_out, "must be above 0 and below 0.5: as many pairs decide when to stop")
    flag(function, "standardize", standardize)
    if progress is not None:
        flag(function, "progress", progress)
    if dtype not in DTYPES:
        fail(function, "dtype", dtype, "must be torch.float32 or torch.float64")
    device = _device(function, x.device if device is None else device)

    generator = torch.Generator().manual_seed(seed)
    rows = split(function, len(x), batch_size, held_out, generator)
    x, y = x.to(device), y.to(device)
    if standardize:
        x, y = (standardised(function, name, z, rows.training.to(device)) for name, z in (("x", x), ("y", y)))
    x, y = x.to(dtype), y.to(dtype)

    def pairs(of: Tensor) -> tuple[Tensor, Tensor]:
        of = of.to(device)
        return x[of], y[of]

    with _seeded(seed, device), bar(progress, max_steps) as report:
        name, made = critic_for(function, bound, critic, x.shape[1], y.shape[1])
        networks = beside(bound, x.shape[1], y.shape[1])
        objective = copy.deepcopy(Objective(bound, made, **{**networks, **options})).to(device, dtype)
        if not any(parameter.requires_grad for parameter in objective.parameters()):
            must = "must have a parameter to train; jk.mi.bound gives the value of a critic as it is"
            fail(function, "critic", f"a {name} without one", must)
        trained = train(
            objective,
            pairs(rows.training),
            pairs(rows.stopping),
            batch_size=batch_size,
            learning_rate=learning_rate,
            max_steps=max_steps,
            patience=patience,
            generator=generator,
            report=report,
        )
        found = trained.objective.value(*pairs(rows.held_out), batch_size)
    if not math.isfinite(found.value):
        must = f"must be finite: try a smaller learning_rate (it was {learning_rate:g}), or bound='info_nce'"
        raise RuntimeError(f"estimate: the value of the held-out pairs is {found.value}, {must}")
    return Estimate(
        value=found.value,
        stderr=found.stderr,
        cap=found.cap,
        bound=bound,
        kind=found.kind,
        note=found.note,
        critic=name,
        batch_size=batch_size,
        blocks=found.blocks,
        training=len(rows.training),
        stopping=len(rows.stopping),
        held_out=len(rows.held_out),
        steps=trained.steps,
        best_step=trained.best_step,
        stopped_early=trained.stopped_early,
        history=trained.history,
        seconds=time.perf_counter() - begun,
        objective=trained.objective,
    )


def _at_least(function: str, argument: str, value: Any, least: int) -> int:
    value = integer(function, argument, value)
    if value < least:
        fail(function, argument, value, f"must be at least {least}")
    return value


def _device(function: str, device: Any) -> torch.device:
    if not isinstance(device, (str, torch.device)):
        wrong_type(function, "device", device, "must be a torch.device or its name")
    try:
        found = torch.device(device)
        torch.empty(1, device=found).cpu()
    except Exception as error:  # of many kinds, by what is wrong with the device
        why = str(error).splitlines()[0]
        fail(function, "device", repr(str(device)), f"must be a device of this machine that holds numbers ({why})")
    return found


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """torch's global generators, of networks' first weights and of dropout, seeded and then put back."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
