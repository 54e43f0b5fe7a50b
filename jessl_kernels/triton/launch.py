"""From a `Score` to the arguments of a kernel, and from the parts that programs wrote to the result.

A launch is split into ranges of columns if row tiles alone would leave processors idle; the parts of the ranges are merged in
order. So the bits of a result depend on the device's number of processors and on nothing else.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
import triton
from torch import Tensor

from ..problem.exclude import IdPair
from ..problem.phi import Phi
from ..problem.row_loss import RowProblem
from ..problem.score import Score
from ..problem.types import Sums, Terms, Weights
from . import finalize, fused, shapes, tile, tune
from .launch_cache import ALIGNED_BYTES, launch_cached
from .shapes import Shape

MAX_PROGRAMS = tile.MAX_PROGRAMS.value
PROGRAMS_EACH = 4  # programs for each processor
ROWS = 128  # rows that a program of the kernels over rows takes at a time
ONE_STAGE = {"num_stages": 1}  # without products there is no pipeline to fill
SAFE = os.environ.get("JESSL_SAFE") == "1"  # no software pipelining: for a compiler whose pipeliner is suspected
TYPES = {torch.float32: triton.language.float32, torch.float64: triton.language.float64}


T = TypeVar("T", Tensor, Tensor | None)


class Pairs(NamedTuple):
    """Biases and exclusion, as the kernels take them.

    Triton compiles a variant for ints that are 1 or multiples of 16. A diagonal d is passed as 4d + 2, which is neither.

    same, different, without, within   pairs of ids of rows and of columns; the latter two hold one pair or none
    first, last  (N,) int64, non-decreasing, or None: the ids exclude all pairs of row i outside of columns first_i … last_i − 1.
                 A hint, by which the fused kernels skip tiles
    """

    row_bias: Tensor | None
    col_bias: Tensor | None
    diagonals: tuple[int, ...]
    keep: tuple[int, ...]
    same: tuple[IdPair, ...]
    different: tuple[IdPair, ...]
    without: tuple[IdPair, ...]
    within: tuple[IdPair, ...]
    first: Tensor | None = None
    last: Tensor | None = None


# Unmerged sums over parts of the pairs are `Sums` too: (tilts, parts, n), linear and count (parts, n). The reference of a part
# without pairs may be −∞.
NO_SUMS = Sums(None, None)  # pyright: ignore[reportArgumentType]


def one_part(sums: Sums) -> Sums:
    return Sums(*(None if t is None else t.unsqueeze(-2).contiguous() for t in sums))  # pyright: ignore[reportArgumentType]


class Side(NamedTuple):
    """`Weights` of rows, or of columns, as kernels take them; all None for a side without weights.

    rescaled  (tilts, n) the factor over e^{reference − base}, for `tile.weights_of`; None unless both sides share exponentials
    """

    reference: Tensor | None = None
    factor: Tensor | None = None
    rescaled: Tensor | None = None
    spread: Tensor | None = None
    mean: Tensor | None = None

    @staticmethod
    def of(weights: Weights | None) -> Side:
        if weights is None:
            return NO_SIDE
        reference, factor, spread, mean = (None if t is None else t.contiguous() for t in weights)
        return Side(reference, factor, None, spread, mean)

    def part(self, here: slice) -> Side:
        return Side(*(None if t is None else aligned(t[..., here]) for t in self))

    def weights(self) -> Weights:
        assert self.factor is not None
        return Weights(self.reference, self.factor, self.spread, self.mean)


NO_SIDE = Side()


class Sides(NamedTuple):
    """lse_range  the distances of the references, if both sides share exponentials: see `tile.bases_of`"""

    row: Side = NO_SIDE
    col: Side = NO_SIDE
    lse_range: Tensor | None = None

    @staticmethod
    def of(row: Weights | None, col: Weights | None) -> Sides:
        """Both sides share exponentials if both exist and have weights of log-sum-exps without a spread."""
        one, other = Side.of(row), Side.of(col)
        if row is None or col is None or row.reference is None or row.spread is not None or col.spread is not None:
            return Sides(one, other)
        assert col.reference is not None
        levels = torch.cat([row.reference, col.reference], dim=1)
        there = torch.cat([row.factor, col.factor], dim=1) != 0
        base = torch.where(there, levels, -torch.inf).amax(dim=1)
        base = torch.where(base.isinf(), 0.0, base)
        far = torch.where(there, (levels - base[:, None]).abs(), 0.0).amax()
        factors = torch.cat([row.factor, col.factor], dim=1)
        rescaled = torch.where(there, factors * (base[:, None] - levels).exp(), 0.0)
        of_row, of_col = rescaled.split([row.factor.shape[1], col.factor.shape[1]], dim=1)
        lse_range = torch.cat([far.expand(2 * MAX_PROGRAMS), base])
        return Sides(
            one._replace(rescaled=of_row.contiguous()), other._replace(rescaled=of_col.contiguous()), lse_range
        )

    def transposed(self) -> Sides:
        return Sides(self.col, self.row, self.lse_range)

    def part(self, rows: slice, columns: slice) -> Sides:
        return Sides(self.row.part(rows), self.col.part(columns), self.lse_range)


class Pulled(NamedTuple):
    """Parts of the sums of `pull` over columns: Σ U y or Σ U (y − x), (ranges, R, D); Σ ψ(tilt s), Σ P and Σ U t, (ranges, R)."""

    embedding: Tensor
    psi: Tensor | None = None
    bias: Tensor | None = None
    scale: Tensor | None = None

    def merged(self) -> Pulled:
        """The sums over all columns."""
        embedding, *others = self
        return Pulled(merged(embedding), *(None if part is None else merged(part) for part in others))


@dataclass
class Problem:
    """A score with its tensors contiguous and aligned, and the arguments that all kernels take of it."""

    score: Score
    x: Tensor
    y: Tensor
    scale: Tensor
    pairs: Pairs

    @staticmethod
    def of(score: Score, reach: IdPair | None = None) -> Problem:
        """reach  first and last of `Pairs`"""
        exclude = score.exclude
        x = aligned(score.x)
        y = x if score.y is None else aligned(score.y)
        # A diagonal outside of the matrix is dropped, because it might not fit into 32 bits.
        diagonals, keep = (
            tuple(sorted({4 * d + 2 for d in ds if -score.N < d < score.M})) for ds in (exclude.diagonals, exclude.keep)
        )
        further = (() if pair is None else (pair,) for pair in (score.without, score.within))
        same, different, without, within = (
            tuple((aligned(rows), aligned(cols)) for rows, cols in pairs)
            for pairs in (exclude.same, exclude.different, *further)
        )
        biases = aligned(score.row_bias), aligned(score.col_bias)
        pairs = Pairs(*biases, diagonals, keep, same, different, without, within, *(reach or (None, None)))
        return Problem(score, x, y, scale_of(score), pairs)

    @property
    def phi(self) -> dict[str, Any]:
        return phi_of(self.score.phi)

    def fused_options(self, shape: Shape) -> dict[str, Any]:
        score = self.score
        held = {"D": score.D, "BD": shapes.held(score), "KIND": score.kind, "DTYPE": TYPES[score.dtype]}
        return {**held, **self.phi, **run_options(shape)}


def scale_of(problem: Score | RowProblem) -> Tensor:
    """α as kernels read it: 0-d, on the device of the embeddings."""
    alpha, x = problem.scale, problem.x if isinstance(problem, Score) else problem.x[0]
    return alpha.detach() if isinstance(alpha, Tensor) else x.new_full((), alpha, dtype=torch.float64)


def aligned(x: T) -> T:
    """A contiguous tensor at an address that allows vector loads: single loads would cost a tile too many registers."""
    if x is None:
        return x
    x = x.contiguous()
    return x.clone() if x.data_ptr() % ALIGNED_BYTES else x


def cdiv(count: int, each: int) -> int:
    """count / each, rounded up; triton.cdiv takes 3 µs."""
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
    """The number of ranges of columns, and the columns of each."""
    tiles = cdiv(rows, shape.rows)
    wanted = cdiv(PROGRAMS_EACH * processors(problem.x.device), tiles)
    wanted = max(1, min(wanted, cdiv(problem.score.M, shape.cols), most or wanted))
    each = cdiv(cdiv(problem.score.M, wanted), shape.cols) * shape.cols
    return cdiv(problem.score.M, each), each


def sum_parts(
    problem: Problem, terms: Terms, cols: bool, workspace: int, shape: Shape | None = None
) -> tuple[Sums, Sums]:
    """Sums of rows, and of columns or NO_SUMS, in parts."""
    score = problem.score
    shape = shape or tune.chosen(
        "both" if cols else "sums",
        score,
        lambda shape: sum_parts(problem, terms, cols, workspace, shape),
        len(terms.tilts),
    )
    # Column parts hold numbers for each row tile and column, so row tiles are launched a block at a time.
    tiles = cdiv(score.N, shape.rows)
    numbers = len(terms.tilts) * (1 + (terms.op == "logsumexp")) + 2 * terms.linear
    most = max(1, workspace // (numbers * score.M * score.dtype.itemsize)) if cols else tiles
    count, each = ranges(problem, shape, min(score.N, most * shape.rows))
    like = score.x.new_empty(0, dtype=score.dtype)
    row, of_blocks = Sums.empty(like, terms, count, score.N), []
    for first in range(0, tiles, most):
        here = min(most, tiles - first)
        col = Sums.empty(like, terms, here, score.M) if cols else NO_SUMS
        if cols and problem.pairs.first is not None:  # columns that a tile of rows skips have no sum there
            for part in col[1:]:
                if part is not None:
                    part.zero_()
        launch_cached(
            fused.row_sums, (here, count),
            problem.x, problem.y, problem.scale, problem.pairs, row, col, None, None, first * shape.rows, 0, score.N, score.M,
            each, **constants(terms), ATTEND=False, SHIFT=0, **problem.fused_options(shape),
        )  # fmt: skip
        of_blocks.append(col if tiles <= most else one_part(merge(col)) if cols else col)
    if len(of_blocks) == 1:
        return row, of_blocks[0]
    found = zip(*of_blocks, strict=True)
    return row, Sums(*(None if fields[0] is None else torch.cat(fields, dim=-2) for fields in found))  # pyright: ignore[reportArgumentType]


def merge(parts: Sums, to: Sums | None = None, *, add: bool = False) -> Sums:
    """The sums over all parts, written to `to`, or added to it."""
    tilts, count, n = parts.total.shape
    to = to or Sums(*(None if t is None else t.new_empty(*t.shape[:-2], n) for t in parts))  # pyright: ignore[reportArgumentType]
    grid, options = over_rows(n, count)
    launch_cached(
        finalize.merge_sums, grid, parts.total, parts, to, count, n, to.total.stride(0), TILTS=tilts, ADD=add, **options
    )
    return to


def over_rows(rows: int, parts: int) -> tuple[tuple[int], dict[str, int]]:
    """The grid and the constants of a kernel over rows, each of which has this many parts."""
    return (min(cdiv(rows, ROWS), MAX_PROGRAMS),), {
        "BLOCK": ROWS,
        "PARTS_PER_LOAD": 4 if parts <= 4 else 32,
        **ONE_STAGE,
    }


def attend(problem: Problem, mean: bool, shift: int, workspace: int, shape: Shape | None = None) -> tuple[Sums, Pulled]:
    """Parts of the sums and of Σ_j e^{s_ij − reference_i} y_j; with `mean` also of Σ_j e^{s_ij − reference_i} t_ij, as `scale`.
    Weights are 2^shift times larger in the product."""
    score, terms = problem.score, Terms()
    shape = shape or tune.chosen("attend", score, functools.partial(attend, problem, mean, shift, workspace))
    count, each = ranges(problem, shape, score.N, most=parts_within(problem, workspace))
    row = Sums.empty(score.x.new_empty(0, dtype=score.dtype), terms, count, score.N)
    pulled = row.total.new_empty(count, score.N, score.D)
    mean_part = row.total.new_empty(count, score.N) if mean else None
    launch_cached(
        fused.row_sums, (cdiv(score.N, shape.rows), count),
        problem.x, problem.y, problem.scale, problem.pairs, row, NO_SUMS, pulled, mean_part, 0, 0, score.N, score.M, each,
        **constants(terms), ATTEND=True, SHIFT=shift, **problem.fused_options(shape),
    )  # fmt: skip
    return row, Pulled(pulled, scale=mean_part)


def pull(
    problem: Problem, sides: Sides, terms: Terms, workspace: int, *, psi: bool = False, bias: bool = False,
    scale: bool = False, rows: slice | None = None, shape: Shape | None = None,
) -> Pulled:  # fmt: skip
    """The sums of U over ranges of columns, for some rows or for all."""
    score = problem.score
    kernel = "pull psi" if psi else "pull" if sides.lse_range is None else "pull both scale" if scale else "pull both"
    shape = shape or tune.chosen(
        kernel,
        score,
        lambda shape: pull(problem, sides, terms, workspace, psi=psi, bias=bias, scale=scale, rows=rows, shape=shape),
        len(terms.tilts),
    )
    here = rows or slice(0, score.N)
    R = here.stop - here.start
    count, each = ranges(problem, shape, R, most=parts_within(problem, workspace))
    embedding = score.x.new_empty(count, R, score.D, dtype=score.dtype)
    of_psi, of_bias, of_scale = (
        score.x.new_empty(count, R, dtype=score.dtype) if on else None for on in (psi, bias, scale)
    )
    launch_cached(
        fused.pull, (cdiv(R, shape.rows), count),
        problem.x, problem.y, problem.scale, problem.pairs, *sides, embedding, of_psi, of_bias, of_scale, here.start, here.stop,
        score.N, score.M, each, **constants(terms), **problem.fused_options(shape),
    )  # fmt: skip
    return Pulled(embedding, of_psi, of_bias, of_scale)


def phi_of(phi: Phi) -> dict[str, Any]:
    low, high = (*phi.parameters, 0.0, 0.0)[:2]  # of student, LOW is its power
    return {"PHI": phi.name, "LOW": low, "HIGH": high}


def constants(terms: Terms) -> dict[str, Any]:
    return {"OP": terms.op, "TILTS": terms.tilts}


def parts_within(problem: Problem, workspace: int) -> int:
    """The number of ranges whose parts of a gradient fit into the workspace; at least one, which is the result itself."""
    return 1 + workspace // (problem.score.N * problem.score.D * problem.score.dtype.itemsize)


def merged(parts: Tensor) -> Tensor:
    """One sum from the sums of its parts, (parts, …)."""
    return parts[0] if len(parts) == 1 else parts.sum(dim=0)


def together(sweeps: list) -> Tensor:
    """The sum of several sweeps' (parts, …), as one part; a single sweep's parts unchanged."""
    if len(sweeps) == 1:
        return sweeps[0]
    whole, *others = map(merged, sweeps)
    for other in others:
        whole.add_(other)
    return whole[None]
