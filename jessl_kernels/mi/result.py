"""What the estimator found, and how it prints, plots and saves itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .._checks import fail, same_rows
from ..arrays import table
from ..figures import saved
from ..literals import BoundKind
from ..plain import plain
from .objectives import Bound, Objective
from .samples import Columns, cast
from .student import quantile
from .training import Point

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy import ndarray

INSIDE = 0.95  # of the interval
NEAR = 0.8  # of the cap: InfoNCE of 128 pairs at its best critic reads 87 % of log 128 for 6 nats, and 1.8 nats low


@dataclass(frozen=True, repr=False)
class Estimate:
    """A bound on the mutual information, of pairs that neither trained its critic nor stopped the training.

    value          nats, the mean over blocks of held-out pairs
    stderr         standard error of that mean, from the spread over blocks
    cap            what the value cannot exceed at this batch size; inf if nothing caps it
    bound, critic  their names; the class of a critic of one's own
    kind           "lower" or "upper" bound in expectation at a fixed critic, or "neither"
    note           a reason not to read the value as that bound, or ""
    batch_size     pairs of a block, K
    blocks         blocks of held-out pairs
    training, stopping, held_out   pairs in each split
    steps          steps that the training took
    best_step      steps after which the reported critic was taken
    stopped_early  whether the training ended before max_steps
    history        the bound on training pairs and on the stopping split, as the training went on
    seconds        of training and evaluation
    objective      the trained critic, for standardised columns, with what it learnt beside it
    columns        means and deviations by which the columns of x and of y were standardised; None if they were not
    """

    value: float
    stderr: float
    cap: float
    bound: str
    kind: BoundKind
    note: str
    critic: str
    batch_size: int
    blocks: int
    training: int
    stopping: int
    held_out: int
    steps: int
    best_step: int
    stopped_early: bool
    history: tuple[Point, ...]
    seconds: float = field(compare=False)
    objective: Objective = field(compare=False)
    columns: tuple[Columns, Columns] | None = field(compare=False)

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, by Student's t over blocks. It is of the bound with this critic; the information may lie far from the bound."""
        half = quantile(INSIDE, self.blocks - 1) * self.stderr
        return self.value - half, self.value + half

    @property
    def near_cap(self) -> bool:
        """Whether the value is above 80 % of its cap, so that the cap and not the information may have set it."""
        return self.value > NEAR * self.cap

    @property
    def warning(self) -> str:
        """What limits the value or makes it doubtful, and the remedy; "" if nothing is known to."""
        if self.near_cap:
            return f"near its cap of {self.cap:.3f} nats, which limits the value: a larger batch size raises the cap"
        return self.note

    def on(self, x: Tensor | ndarray, y: Tensor | ndarray) -> Bound:
        """The bound of other pairs by the same critic, in nats: of a later sample, or of pairs from elsewhere.

        x, y  (N, D_x) and (N, D_y) like those that it was trained on; N at least the batch size, whose blocks give the value

        Raises ValueError or TypeError naming the argument at fault.

        >>> found = jk.mi.estimate(x, x + noise)
        >>> found.on(x, x[torch.randperm(len(x))]).value             # about 0 or below: no longer pairs
        """
        parameter = next(self.objective.parameters())
        tables = [table("on", name, z) for name, z in (("x", x), ("y", y))]
        same_rows("on", *tables)
        if len(tables[0]) < self.batch_size:
            fail("on", "x", f"of {len(tables[0])} rows", f"must have at least {self.batch_size}, the batch size")
        if self.columns is not None:
            for name, z, seen in zip("xy", tables, self.columns, strict=True):
                if z.shape[1] != len(seen.mean):
                    must = f"must have {len(seen.mean)} columns, as in the training"
                    fail("on", name, f"of shape {tuple(z.shape)}", must)
            tables = [seen.standardised(z) for z, seen in zip(tables, self.columns, strict=True)]
        first, second = (
            cast("on", name, z.to(parameter.device), parameter.dtype) for name, z in zip("xy", tables, strict=True)
        )
        return self.objective.value(first, second, self.batch_size)

    def to_dict(self) -> dict[str, Any]:
        """Numbers, words and lists, as JSON takes them: null for a number that is not finite. Without the trained networks."""
        told = {name: value for name, value in vars(self).items() if name not in ("history", "objective", "columns")}
        return plain({**told, "interval": self.interval, "history": [vars(point) for point in self.history]})

    def plot(self, path: str | Path | None = None) -> Figure:
        """The training's curves, the value with its interval, and the cap, as a matplotlib figure.

        path  where to save it, or None
        """
        from .plot import figure_of  # matplotlib is not a requirement

        return saved(figure_of(self), path)

    def __str__(self) -> str:
        low, high = self.interval
        capped = f", cap {self.cap:.3f}" if math.isfinite(self.cap) else ""
        kind = "neither bound" if self.kind == "neither" else f"{self.kind} bound"
        end = "stopped early" if self.stopped_early else "all of them"
        lines = [
            f"{self.bound}, {kind}: {self.value:.3f} nats, 95 % from {low:.3f} to {high:.3f}{capped}",
            f"  {self.critic} critic; {self.blocks} blocks of {self.batch_size} held-out pairs",
            f"  trained on {self.training} pairs, {self.steps} steps ({end}), best at {self.best_step}; {self.seconds:.1f} s",
        ]
        lines += [f"  {self.warning}"] if self.warning else []
        return "\n".join(lines)

    __repr__ = __str__
