"""From a `Score` to the arguments of a kernel, and from the parts that programs wrote to the result.

A launch spreads over ranges of columns where row tiles alone would leave processors idle; the parts of the ranges are merged
in order. So the bits of a result depend on the device's number of processors, and on nothing else.
"""

# pyright: reportArgumentType=false
# (a launch passes plain numbers where its kernel says constexpr)

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from ..score import Gradients, Score
from . import fused, shapes, tune
from .shapes import Shape

ALIGNED_BYTES = 16
PROGRAMS_EACH = 4  # programs a processor should have to choose from
SAFE = os.environ.get("JESSL_SAFE") == "1"  # no software pipelining: for a compiler whose pipeliner is suspected
TYPES = {torch.float32: triton.language.float32, torch.float64: triton.language.float64}


class Pairs(NamedTuple):
    """Biases and exclusion, as the kernels take them.

    Triton compiles anew for ints that are 1 or multiples of 16, wherever it may; a diagonal d is passed as 4d + 2, never
    either.
    """

    row_bias: Tensor | None
    col_bias: Tensor | None
    diagonals: tuple[int, ...]
    keep: tuple[int, ...]
    same_rows: Tensor | None
    same_cols: Tensor | None
    different_rows: Tensor | None
    different_cols: Tensor | None


class Side(NamedTuple):
    """Upstream gradient and log-sum-exp of each row, or column; see `tile.weights` for when the gradient may be None.

    A sum of ψ has no log-sum-exp, and reads none; some tensor stands there, since Triton 3.6 compiles no comparison of a side
    with None if the side holds one.
    """

    gradient: Tensor | None
    lse: Tensor


class Pulled(NamedTuple):
    """What `pull` sums over columns: Σ U y (or Σ U (y − x)), Σ P, Σ U t. Rows still lack a factor of the caller's."""

    embedding: Tensor
    bias: Tensor | None
    scale: Tensor | None


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
        x = _in_order(score.x)
        y = x if score.y is None else _in_order(score.y)
        vectors = [None if v is None else _in_order(v) for v in (score.row_bias, score.col_bias, *same, *different)]
        # A diagonal that misses the matrix is dropped: it might not even fit into 32 bits.
        offsets = [
            tuple(sorted({4 * d + 2 for d in ds if -score.N < d < score.M})) for ds in (exclude.diagonals, exclude.keep)
        ]
        return Problem(score, x, y, Pairs(*vectors[:2], *offsets, *vectors[2:]))

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


def _in_order(x: Tensor) -> Tensor:
    """Element after element from an address that vector loads take: one at a time a tile costs too many registers."""
    x = x.contiguous()
    return x.clone() if x.data_ptr() % ALIGNED_BYTES else x


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
    tiles = triton.cdiv(rows, shape.rows)
    wanted = triton.cdiv(PROGRAMS_EACH * processors(problem.x.device), tiles)
    wanted = max(1, min(wanted, triton.cdiv(problem.score.M, shape.cols), most or wanted))
    each = triton.cdiv(triton.cdiv(problem.score.M, wanted), shape.cols) * shape.cols
    return triton.cdiv(problem.score.M, each), each


def sums(problem: Problem, op: str, cols: bool, workspace: int, shape: Shape | None = None) -> tuple[Tensor, Tensor]:
    """Row and column sums by the fused kernel."""
    score = problem.score
    shape = shape or tune.chosen("sums", score, functools.partial(sums, problem, op, cols, workspace))
    # Half the tiles of a symmetric problem, whose columns are parts of rows too; of distances, parts cost more than they save.
    half = score.symmetric and score.kind == "dot"
    with_columns = half or (cols and not score.symmetric)
    # Column parts are one number for each row tile and column, so rows are launched a block of tiles at a time.
    tiles = triton.cdiv(score.N, shape.rows)
    most = max(1, workspace // (score.M * score.dtype.itemsize)) if with_columns else tiles
    row = score.x.new_empty(score.N, dtype=score.dtype)
    col = row.new_empty(0)
    for first in range(0, tiles, most):
        begin, end = first * shape.rows, min(score.N, (first + most) * shape.rows)
        count, each = ranges(problem, shape, end - begin)
        row_part = row.new_empty(count, score.N)
        nothing = -torch.inf if op == "logsumexp" else 0.0
        col_part = row.new_full((triton.cdiv(end - begin, shape.rows), score.M), nothing) if with_columns else None
        fused.row_sums[(triton.cdiv(end - begin, shape.rows), count)](
            problem.x, problem.y, score.scale, problem.pairs, row_part, col_part, None, None, begin, score.N, score.M, each,
            LSE=op == "logsumexp", ATTEND=False, HALF=half, SHIFT=0, **problem.fused_options(shape),
        )  # fmt: skip
        row[begin:end] = merged(row_part[:, begin:end], op)
        if col_part is not None:
            found = merged(col_part, op)
            col = merged(torch.stack([col, found]), op) if col.numel() else found
    if half:
        row = merged(torch.stack([row, col]), op)
    if score.symmetric:
        return row, row.clone() if cols else row.new_empty(0)
    return row, col


def attend(
    problem: Problem, mean: bool, shift: int, workspace: int, shape: Shape | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """L (N,), Σ_j e^{s_ij − L_i} y_j (N, D), and where it is wanted Σ_j e^{s_ij − L_i} t_ij (N,).

    Weights are 2^shift times larger on the way through the product.
    """
    score = problem.score
    shape = shape or tune.chosen("attend", score, functools.partial(attend, problem, mean, shift, workspace))
    count, each = ranges(problem, shape, score.N, most=parts_within(problem, workspace))
    row_part = score.x.new_empty(count, score.N, dtype=score.dtype)
    pulled = score.x.new_empty(count, score.N, score.D, dtype=score.dtype)
    mean_part = torch.empty_like(row_part) if mean else None
    fused.row_sums[(triton.cdiv(score.N, shape.rows), count)](
        problem.x, problem.y, score.scale, problem.pairs, row_part, None, pulled, mean_part, 0, score.N, score.M, each,
        LSE=True, ATTEND=True, HALF=False, SHIFT=shift, **problem.fused_options(shape),
    )  # fmt: skip
    if count == 1:
        return row_part[0], pulled[0], None if mean_part is None else mean_part[0]
    row = merged(row_part, "logsumexp")
    share = torch.exp(row_part - torch.where(row == -torch.inf, 0.0, row))
    merged_mean = None if mean_part is None else (mean_part * share).sum(dim=0)
    return row, (pulled * share[:, :, None]).sum(dim=0), merged_mean


def pull(
    problem: Problem, row: Side | None, col: Side | None, op: str, shift: int, bias: bool, scale: bool, workspace: int,
    shape: Shape | None = None,
) -> Pulled:  # fmt: skip
    """What U sums to over the columns."""
    score = problem.score
    again = functools.partial(pull, problem, row, col, op, shift, bias, scale, workspace)
    shape = shape or tune.chosen("pull", score, again)
    count, each = ranges(problem, shape, score.N, most=parts_within(problem, workspace))
    embedding = score.x.new_empty(count, score.N, score.D, dtype=score.dtype)
    of_bias, of_scale = (score.x.new_empty(count, score.N, dtype=score.dtype) if on else None for on in (bias, scale))
    fused.pull[(triton.cdiv(score.N, shape.rows), count)](
        problem.x, problem.y, score.scale, problem.pairs, row, col, embedding, of_bias, of_scale, score.N, score.M, each,
        LSE=op == "logsumexp", SHIFT=shift, **problem.fused_options(shape),
    )  # fmt: skip
    return Pulled(*(None if part is None else merged(part, "sum") for part in (embedding, of_bias, of_scale)))


def parts_within(problem: Problem, workspace: int) -> int:
    """Ranges whose parts of a gradient fit into the workspace, one at least: that one is the result."""
    return 1 + workspace // (problem.score.N * problem.score.D * problem.score.dtype.itemsize)


def merged(parts: Tensor, op: str) -> Tensor:
    """One sum from the sums of its parts, (parts, …)."""
    if len(parts) == 1:
        return parts[0]
    return torch.logsumexp(parts, dim=0) if op == "logsumexp" else parts.sum(dim=0)


def add_sums(
    grads: Gradients, here: slice, there: slice, unit: Tensor, bias_row: Tensor | None, bias_col: Tensor | None,
    scale_part: Tensor | None,
) -> None:  # fmt: skip
    """What programs summed over some rows and columns of U: to the biases of those, and to the scale. None where nobody asked."""
    if bias_row is not None:
        grads.row_bias[here] += merged(bias_row, "sum") * unit
    if bias_col is not None:
        grads.col_bias[there] += merged(bias_col, "sum") * unit
    if scale_part is not None:
        grads.scale += scale_part.sum(dtype=torch.float64) * unit


def product(a: Tensor, b: Tensor, wide: torch.dtype, out: Tensor | None = None) -> Tensor:
    """a @ b by the library, summed and returned in the wider dtype."""
    if a.dtype == wide:
        return torch.mm(a, b, out=out)
    if a.is_cuda and (torch.version.cuda or torch.version.hip):
        return torch.mm(a, b, out_dtype=wide) if out is None else torch.mm(a, b, out_dtype=wide, out=out)
    return torch.mm(a.to(wide), b.to(wide), out=out)  # kernels executed on the CPU, whose library has no such product
