"""From a `Score` to the arguments of a kernel, and from the parts that programs wrote to the result.

A launch spreads over ranges of columns where row tiles alone would leave processors idle; the parts of the ranges are merged
in order. So the bits of a result depend on the device's number of processors, and on nothing else.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from ..problem.score import Score
from ..problem.types import Gradients, Upstream
from . import fused, shapes, tile, tune
from .launch_cache import ALIGNED_BYTES, launch_cached
from .shapes import Shape

MAX_PROGRAMS = tile.MAX_PROGRAMS.value
PROGRAMS_EACH = 4  # programs a processor should have to choose from
SAFE = os.environ.get("JESSL_SAFE") == "1"  # no software pipelining: for a compiler whose pipeliner is suspected
TYPES = {torch.float32: triton.language.float32, torch.float64: triton.language.float64}


class Pairs(NamedTuple):
    """Biases and exclusion, as the kernels take them.

    Triton compiles anew for ints that are 1 or multiples of 16, wherever it may; a diagonal d is passed as 4d + 2, never
    either.

    first, last  (N,) int64, non-decreasing, or None: all that the ids leave in of row i are among columns first_i … last_i − 1. A
                 hint, which lets the fused kernels pass by tiles
    """

    row_bias: Tensor | None
    col_bias: Tensor | None
    diagonals: tuple[int, ...]
    keep: tuple[int, ...]
    same_rows: Tensor | None
    same_cols: Tensor | None
    different_rows: Tensor | None
    different_cols: Tensor | None
    first: Tensor | None = None
    last: Tensor | None = None


class Side(NamedTuple):
    """Of each row, or column: upstream gradient, log-sum-exp, and the gradient over e^{L − base}, for `tile.weights`.

    Some tensor stands where nobody reads one, since Triton 3.6 compiles no comparison of a side with None if the side holds one.
    """

    gradient: Tensor
    lse: Tensor
    rescaled: Tensor


class Sides(NamedTuple):
    """lse_range  where both sides have log-sum-exps, how far those lie apart: see `tile.shared_exp_of`"""

    row: Side | None
    col: Side | None
    lse_range: Tensor | None

    @staticmethod
    def of(row: Upstream | None, col: Upstream | None, loss_scale: Tensor | None = None) -> Sides:
        """The upstream gradients are taken over the loss scale."""
        one = None if row is None else _side(row, loss_scale)
        other = one if col is row else None if col is None else _side(col, loss_scale)
        if one is None or other is None or row is None or row.lse is None:
            return Sides(one, other, None)
        both = (one,) if other is one else (one, other)
        levels = [torch.where(side.lse == -torch.inf, 0.0, side.lse) for side in both]
        least, most = torch.aminmax(torch.cat(levels))
        rescaled = [
            side._replace(rescaled=side.gradient * (least - level).exp())
            for side, level in zip(both, levels, strict=True)
        ]
        lse_range = torch.cat([(most - least).expand(2 * MAX_PROGRAMS), least[None]])
        return Sides(rescaled[0], rescaled[-1], lse_range)


def _side(upstream: Upstream, loss_scale: Tensor | None) -> Side:
    gradient = aligned(upstream.gradient) if loss_scale is None else upstream.gradient / loss_scale
    return Side(gradient, gradient if upstream.lse is None else aligned(upstream.lse), gradient)


class Pulled(NamedTuple):
    """Parts of what `pull` sums over columns: Σ U y or Σ U (y − x), (ranges, N, D), and Σ ψ(s), Σ P and Σ U t, (ranges, N). Rows
    still lack a factor of the caller's."""

    embedding: Tensor
    psi: Tensor | None
    bias: Tensor | None
    scale: Tensor | None

    def merged(self) -> Pulled:
        """The same of all columns."""
        embedding, *others = self
        return Pulled(merged(embedding, "sum"), *(None if part is None else merged(part, "sum") for part in others))


@dataclass
class Problem:
    """A score with its tensors contiguous and aligned, and what every kernel is told of it."""

    score: Score
    x: Tensor
    y: Tensor
    pairs: Pairs

    @staticmethod
    def of(score: Score) -> Problem:
        exclude = score.exclude
        same, different = exclude.same or (None, None), exclude.different or (None, None)
        x = aligned(score.x)
        y = x if score.y is None else aligned(score.y)
        row_bias, col_bias, *ids = (
            None if v is None else aligned(v) for v in (score.row_bias, score.col_bias, *same, *different)
        )
        # A diagonal that misses the matrix is dropped: it might not even fit into 32 bits.
        diagonals, keep = (
            tuple(sorted({4 * d + 2 for d in ds if -score.N < d < score.M})) for ds in (exclude.diagonals, exclude.keep)
        )
        return Problem(score, x, y, Pairs(row_bias, col_bias, diagonals, keep, *ids))

    @property
    def phi(self) -> dict[str, Any]:
        low, high = self.score.phi.parameters or (0.0, 0.0)
        return {"PHI": self.score.phi.name, "LOW": low, "HIGH": high}

    def fused_options(self, shape: Shape) -> dict[str, Any]:
        score = self.score
        return {
            "D": score.D,
            "BD": shapes.held(score),
            "KIND": score.kind,
            "DTYPE": TYPES[score.dtype],
            **self.phi,
            **run_options(shape),
        }


def aligned(x: Tensor) -> Tensor:
    """Element after element from an address that vector loads take: one at a time a tile costs too many registers."""
    x = x.contiguous()
    return x.clone() if x.data_ptr() % ALIGNED_BYTES else x


def cdiv(count: int, each: int) -> int:
    """How many of `each` it takes; triton.cdiv takes 3 µs."""
    return -(-count // each)


def run_options(shape: Shape) -> dict[str, int]:
    stages = 1 if SAFE else shape.stages
    options = {"BM": shape.rows, "BN": shape.cols, "num_warps": shape.warps, "num_stages": stages}
    if shape.registers is not None and torch.version.hip is None:
        options["maxnreg"] = shape.registers
    return options


@functools.cache
def processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if torch.cuda.is_available() else 4


def ranges(problem: Problem, shape: Shape, rows: int, most: int | None = None) -> tuple[int, int]:
    """How many ranges of columns, and how many columns each has."""
    tiles = cdiv(rows, shape.rows)
    wanted = cdiv(PROGRAMS_EACH * processors(problem.x.device), tiles)
    wanted = max(1, min(wanted, cdiv(problem.score.M, shape.cols), most or wanted))
    each = cdiv(cdiv(problem.score.M, wanted), shape.cols) * shape.cols
    return cdiv(problem.score.M, each), each


def sums(problem: Problem, op: str, cols: bool, workspace: int, shape: Shape | None = None) -> tuple[Tensor, Tensor]:
    """Row and column sums by the fused kernel."""
    row, col, _ = sum_parts(problem, op, cols, workspace, shape=shape)
    return merged(row, op), row.new_empty(0) if col is None else merged(col, op)


class Summed(NamedTuple):
    """Parts of row sums, (ranges, N), of column sums, (parts, M), and of Σ_j s_ij, (ranges, N); None where nobody asked."""

    row: Tensor
    col: Tensor | None
    linear: Tensor | None


def sum_parts(
    problem: Problem, op: str, cols: bool, workspace: int, *, linear: bool = False, shape: Shape | None = None
) -> Summed:
    """Of rows; of columns too, or, for log-sum-exps of rows alone, of the scores themselves."""
    assert not linear or (op == "logsumexp" and not cols)
    score = problem.score
    shape = shape or tune.chosen(
        "both" if cols else "sums", score, lambda shape: sum_parts(problem, op, cols, workspace, shape=shape)
    )
    # Column parts are one number for each row tile and column, so rows are launched a block of tiles at a time.
    tiles = cdiv(score.N, shape.rows)
    most = max(1, workspace // (score.M * score.dtype.itemsize)) if cols else tiles
    count, each = ranges(problem, shape, min(score.N, most * shape.rows))
    row_part = score.x.new_empty(count, score.N, dtype=score.dtype)
    of_scores = torch.empty_like(row_part) if linear else None
    cols_of: list[Tensor] = []
    for first in range(0, tiles, most):
        here = min(most, tiles - first)
        col_part = row_part.new_empty(here, score.M) if cols else None
        launch_cached(
            fused.row_sums, (here, count),
            problem.x, problem.y, score.scale, problem.pairs, row_part, col_part, None, None, of_scores, first * shape.rows,
            score.N, score.M, each, LSE=op == "logsumexp", ATTEND=False, SHIFT=0, **problem.fused_options(shape),
        )  # fmt: skip
        if col_part is not None:
            cols_of.append(col_part if tiles <= most else merged(col_part, op)[None])
    return Summed(row_part, torch.cat(cols_of) if len(cols_of) > 1 else cols_of[0] if cols else None, of_scores)


class Attended(NamedTuple):
    """Parts: L (ranges, N), Σ_j e^{s_ij − L_i} y_j (ranges, N, D), and where it is wanted Σ_j e^{s_ij − L_i} t_ij (ranges, N)."""

    lse: Tensor
    embedding: Tensor
    mean: Tensor | None

    def merged(self) -> Attended:
        """The same of all ranges together."""
        if len(self.lse) == 1:
            return Attended(self.lse[0], self.embedding[0], None if self.mean is None else self.mean[0])
        lse = merged(self.lse, "logsumexp")
        share = torch.exp(self.lse - torch.where(lse == -torch.inf, 0.0, lse))
        mean = None if self.mean is None else (self.mean * share).sum(dim=0)
        return Attended(lse, (self.embedding * share[:, :, None]).sum(dim=0), mean)


def attend(problem: Problem, mean: bool, shift: int, workspace: int, shape: Shape | None = None) -> Attended:
    """Weights are 2^shift times larger on the way through the product."""
    score = problem.score
    shape = shape or tune.chosen("attend", score, functools.partial(attend, problem, mean, shift, workspace))
    count, each = ranges(problem, shape, score.N, most=parts_within(problem, workspace))
    row_part = score.x.new_empty(count, score.N, dtype=score.dtype)
    pulled = score.x.new_empty(count, score.N, score.D, dtype=score.dtype)
    mean_part = torch.empty_like(row_part) if mean else None
    launch_cached(
        fused.row_sums, (cdiv(score.N, shape.rows), count),
        problem.x, problem.y, score.scale, problem.pairs, row_part, None, pulled, mean_part, None, 0, score.N, score.M,
        each, LSE=True, ATTEND=True, SHIFT=shift, **problem.fused_options(shape),
    )  # fmt: skip
    return Attended(row_part, pulled, mean_part)


def pull(
    problem: Problem, sides: Sides, op: str, workspace: int, *, shift: int = 0, unit_upstream: bool = False, psi: bool = False,
    bias: bool = False, scale: bool = False, linear_grad: Tensor | None = None, shape: Shape | None = None,
) -> Pulled:  # fmt: skip
    """What U sums to over ranges of columns; with `unit_upstream` as if all upstream gradients were 1. linear_grad (N,), of a
    symmetric problem: linear_grad_i + linear_grad_j is taken off U_ij of each pair that is in."""
    score = problem.score
    kernel = "pull psi" if psi else "pull" if sides.lse_range is None else "pull both scale" if scale else "pull both"
    shape = shape or tune.chosen(
        kernel,
        score,
        lambda shape: pull(
            problem, sides, op, workspace, unit_upstream=unit_upstream, psi=psi, scale=scale, shape=shape
        ),
    )
    count, each = ranges(problem, shape, score.N, most=parts_within(problem, workspace))
    embedding = score.x.new_empty(count, score.N, score.D, dtype=score.dtype)
    of_psi, of_bias, of_scale = (
        score.x.new_empty(count, score.N, dtype=score.dtype) if on else None for on in (psi, bias, scale)
    )
    launch_cached(
        fused.pull, (cdiv(score.N, shape.rows), count),
        problem.x, problem.y, score.scale, problem.pairs, *sides, linear_grad, embedding, of_psi, of_bias, of_scale, score.N,
        score.M, each, LSE=op == "logsumexp", SHIFT=shift, UNIT_UPSTREAM=unit_upstream, **problem.fused_options(shape),
    )  # fmt: skip
    return Pulled(embedding, of_psi, of_bias, of_scale)


def parts_within(problem: Problem, workspace: int) -> int:
    """Ranges whose parts of a gradient fit into the workspace, one at least: that one is the result."""
    return 1 + workspace // (problem.score.N * problem.score.D * problem.score.dtype.itemsize)


def merged(parts: Tensor, op: str) -> Tensor:
    """One sum from the sums of its parts, (parts, …)."""
    if len(parts) == 1:
        return parts[0]
    return torch.logsumexp(parts, dim=0) if op == "logsumexp" else parts.sum(dim=0)


def add_sums(
    grads: Gradients, here: slice, there: slice, loss_scale: Tensor, bias_row: Tensor | None, bias_col: Tensor | None,
    scale_part: Tensor | None,
) -> None:  # fmt: skip
    """What programs summed over some rows and columns of U: to the biases of those, and to the scale. None where nobody asked."""
    if bias_row is not None:
        grads.row_bias[here] += merged(bias_row, "sum") * loss_scale
    if bias_col is not None:
        grads.col_bias[there] += merged(bias_col, "sum") * loss_scale
    if scale_part is not None:
        grads.scale += scale_part.sum(dtype=torch.float64) * loss_scale


def product(a: Tensor, b: Tensor, wide: torch.dtype, out: Tensor | None = None) -> Tensor:
    """a @ b by the library, summed and returned in the wider dtype."""
    if a.dtype == wide:
        return torch.mm(a, b, out=out)
    if a.is_cuda and (torch.version.cuda or torch.version.hip):
        return torch.mm(a, b, out_dtype=wide) if out is None else torch.mm(a, b, out_dtype=wide, out=out)
    return torch.mm(a.to(wide), b.to(wide), out=out)  # kernels executed on the CPU, whose library has no such product
