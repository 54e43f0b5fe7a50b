"""A bound on the information of a sample: its critic is trained on one part of the pairs, and another part gives the value."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .._checks import choice, fail, flag, integer, number, positive, same_rows
from ..arrays import device_of, table
from ..literals import BOUND_NAMES, BoundName, CriticName
from ..progress import bar
from .networks import RATE, RATES, beside, critic_for
from .objectives import Objective, Options
from .result import Estimate
from .samples import cast, columns_of, split
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
    learning_rate: float | None = None,
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

    The pairs are split at random into three parts. `held_out`·N of them give the value. As many, but no more than 32 blocks,
    decide when the training stops and which of its states is taken. The others train. So the value has no bias from the
    selection, and its interval is of the bound with that critic. A lower bound may lie far below the information: the sample
    or the training may be too small, and "info_nce" cannot pass log K. "club" trains a model q(y|x) in the place of a critic.

    x, y           (N, D_x) and (N, D_y), or (N,) for one column: float tensors or NumPy arrays, row i of both a pair
    bound          the bound; "ksg" is none, but an estimate by neighbours: `jk.mi.ksg`
    critic         "inner_product", "bilinear", "separable" (also None) or "joint"; or a module: a `jk.mi.Critic`, any
                   f(x_block, y_block) → scores (n, m), or for "club" x → (mean, log_std). A copy of it is trained
    batch_size     pairs of a mini-batch, and of a block of the bound: K
    held_out       share of the pairs, above 0 and below ½
    learning_rate  of Adam; None: 1e-2 for "inner_product" and "bilinear", 5e-4 for others
    max_steps      steps at most
    patience       evaluations that are no better on the second part, after which the training stops; one every 100 steps,
                   or every epoch if that is shorter
    standardize    subtract its mean from each column and divide by its standard deviation; the information stays the same
    seed           of the split, the networks and the batches. The same seed gives the same bits on the same number of threads.
                   The global generators of random numbers are left as they were
    device         where to train; None: where x is
    dtype          torch.float32 or torch.float64, to which x and y are cast
    progress       whether to show a bar; None: on a terminal, if rich is installed
    options        of `jk.mi.Objective`: alpha, tau, decay, leave_out, negatives, baseline, u. A baseline of "tuba" and
                   "interpolated" and the u of "flo" are networks unless they are given

    Raises ValueError or TypeError naming the argument at fault, and RuntimeError with the step at which a loss was not finite.

    >>> x = torch.randn(4000, 3)
    >>> jk.mi.estimate(x, x + torch.randn(4000, 3), batch_size=64)         # 3/2 log 2 = 1.04
    """
    function, begun = "estimate", time.perf_counter()
    if bound == "ksg":
        fail(function, "bound", "'ksg'", "which is no bound and has no critic: call jk.mi.ksg(x, y)")
    choice(function, "bound", bound, BOUND_NAMES)
    x, y = table(function, "x", x), table(function, "y", y)
    same_rows(function, x, y)
    batch_size = _at_least("batch_size", batch_size, 2)
    max_steps, patience = _at_least("max_steps", max_steps, 1), _at_least("patience", patience, 1)
    seed = _at_least("seed", seed, 0)
    if seed >= 2**63:
        fail(function, "seed", seed, "must be below 2**63")
    if learning_rate is not None:
        learning_rate = positive(function, "learning_rate", learning_rate)
    if not 0 < number(function, "held_out", held_out) < 0.5:
        fail(function, "held_out", held_out, "must be above 0 and below 0.5: as many pairs decide when to stop")
    flag(function, "standardize", standardize)
    if progress is not None:
        flag(function, "progress", progress)
    if dtype not in DTYPES:
        fail(function, "dtype", dtype, "must be torch.float32 or torch.float64")
    device = x.device if device is None else device_of(function, device)

    generator = torch.Generator().manual_seed(seed)
    rows = split(function, len(x), batch_size, held_out, generator).to(device)
    x, y = x.to(device), y.to(device)
    columns = None
    if standardize:
        columns = columns_of(function, "x", x[rows.training]), columns_of(function, "y", y[rows.training])
        x, y = columns[0].standardised(x), columns[1].standardised(y)
    x, y = cast(function, "x", x, dtype), cast(function, "y", y, dtype)
    # It trains under the caller's no_grad and inference_mode too. Parts of x and y are copies, and so no inference tensors.
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        _seeded(seed, device),
        bar(function, progress, max_steps, "training") as show,
    ):
        name, made = critic_for(function, bound, critic, x.shape[1], y.shape[1])
        rate = RATES.get(name, RATE) if learning_rate is None else learning_rate
        networks = beside(bound, x.shape[1], y.shape[1])
        objective = copy.deepcopy(Objective(bound, made, **{**networks, **options})).to(device, dtype)
        if not any(parameter.requires_grad for parameter in objective.parameters()):
            must = "must have a parameter to train; jk.mi.bound gives the value of a critic as it is"
            fail(function, "critic", f"a {name} without one", must)
        trained = train(
            objective,
            (x[rows.training], y[rows.training]),
            (x[rows.stopping], y[rows.stopping]),
            batch_size=batch_size,
            learning_rate=rate,
            max_steps=max_steps,
            patience=patience,
            generator=generator,
            report=lambda point: show(point.step, f"{point.stopping:.3f} nats"),
        )
        found = trained.objective.value(x[rows.held_out], y[rows.held_out], batch_size)
    if not math.isfinite(found.value):
        must = f"must be finite: try a smaller learning_rate (it was {rate:g}), or bound='info_nce'"
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
        columns=columns,
    )


def _at_least(argument: str, value: Any, least: int) -> int:
    if integer("estimate", argument, value) < least:
        fail("estimate", argument, value, f"must be at least {least}")
    return int(value)


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
