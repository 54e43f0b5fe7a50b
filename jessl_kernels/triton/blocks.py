"""Gradients block by block: a kernel makes U of some rows and columns, and the library's products take it to the embeddings.

This is the route of the dtypes that tensor cores multiply (bf16, fp16, fp32 if TF32 is allowed) in more dimensions than stay on
the chip. Only a block of U is kept, in the dtype of the embeddings: it is written once and read twice. Every block reads and
writes gradients; a block is about as wide as high, so that there are few. 3 products of 2·N·M·D flops; 1½ to 2 for a symmetric
problem, which takes only the blocks on and right of the diagonal.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from ..backends.products import product
from ..problem.score import Score
from ..problem.types import Gradients, Needs, Terms
from . import shapes
from .launch import Problem, Sides, cdiv, constants, merged, run_options
from .launch_cache import launch_cached
from .score_grad import score_grad_block


def sizes(score: Score, workspace: int) -> tuple[int, int]:
    """Rows and columns of a block, in whole tiles: equally many if both fit, else all of the fewer and more of the others."""
    tile = shapes.wide("score_grad", score).rows
    most = max(1, workspace // (score.x.dtype.itemsize * tile * tile))  # tiles
    rows, cols = cdiv(score.N, tile), cdiv(score.M, tile)
    side = max(1, math.isqrt(most))
    if score.symmetric:
        return min(rows, side) * tile, min(rows, side) * tile
    few = min(rows, cols, side)
    return (few * tile, min(cols, most // few) * tile) if rows <= cols else (min(rows, most // few) * tile, few * tile)


def pull_back(
    score: Score, terms: Terms, sides: Sides, unit: Tensor | None, needs: Needs, into: Gradients, workspace: int,
    psi: Tensor | None = None,
) -> None:  # fmt: skip
    """Add all gradients. The weights still lack the factor `unit` (0-d), unless it is None. With `psi` (N,), which begins as 0,
    also add Σ_j ψ(tilt s_ij).

    In a symmetric problem both sides are equal and each pair stands for two, unless psi is requested.
    """
    problem, shape = Problem.of(score), shapes.wide("score_grad", score)
    half = score.symmetric and psi is None
    rows, cols = sizes(score, workspace)
    room = problem.x.new_empty(rows, cols)
    factor = (problem.scale if unit is None else problem.scale * unit).to(score.dtype)

    def new(on: bool, parts: int, n: int) -> Tensor | None:
        return score.x.new_empty(parts, n, dtype=score.dtype) if on else None

    def add(to: Tensor, sums: Tensor, times: float) -> None:
        to.add_(sums if unit is None else sums * unit, alpha=times)

    for first, begin in itertools.product(range(0, score.N, rows), range(0, score.M, cols)):
        if half and begin < first:
            continue
        here, there = slice(first, min(score.N, first + rows)), slice(begin, min(score.M, begin + cols))
        twice = half and begin == first  # the block holds each pair from both its ends
        times = 0.5 if twice else 1.0
        u = room[: here.stop - first, : there.stop - begin]
        down, across = cdiv(len(u), shape.rows), cdiv(u.shape[1], shape.cols)
        psi_row, bias_row, scale_part = (
            new(on, across, len(u)) for on in (psi is not None, needs.row_bias, needs.scale)
        )
        bias_col = new(needs.col_bias, down, u.shape[1])
        launch_cached(
            score_grad_block, (down * across,),
            problem.x, problem.y, u, problem.scale, problem.pairs, *sides, psi_row, bias_row, bias_col, scale_part,
            first, here.stop, begin, there.stop, score.N, score.M, u.stride(0), D=score.D, BD=shapes.chunk(score),
            **constants(terms), **problem.phi, **run_options(shape),
        )  # fmt: skip
        if psi is not None and psi_row is not None:
            psi[here] += merged(psi_row)
        if bias_row is not None:
            add(into.row_bias[here], merged(bias_row), times)
        if bias_col is not None:
            add(into.col_bias[there], merged(bias_col), times)
        if scale_part is not None:
            add(into.scale, scale_part.sum(dtype=torch.float64), times)
        if needs.x:
            into.x[here].addcmul_(product(u, problem.y[there], score.dtype), factor)
        if score.y is None and needs.x and not twice:
            into.x[there].addcmul_(product(u.T, problem.x[here], score.dtype), factor)
        low, high = max(begin, needs.y.start), min(there.stop, needs.y.stop)
        if low < high:
            to = into.y[low - needs.y.start : high - needs.y.start]
            to.addcmul_(product(u[:, low - begin : high - begin].T, problem.x[here], score.dtype), factor)
