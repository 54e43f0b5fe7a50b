"""Gradients block by block: a kernel makes U of some rows and columns, and the library's products pull it to the embeddings.

For what tensor cores multiply (bf16, fp16, fp32 where TF32 is allowed) in more dimensions than stay on the chip. A block of U, in
the dtype of the embeddings, is all that is kept: it is written once and read twice; and gradients, which every block reads and
writes, seldom, since it is about as wide as high. 3 products of 2·N·M·D flops, of a symmetric problem 1½ to 2, by the blocks on
and right of the diagonal.
"""

from __future__ import annotations

import math

from torch import Tensor

from ..problem.score import Score
from ..problem.types import Gradients
from . import shapes
from .launch import Problem, Sides, add_sums, cdiv, merged, product, run_options
from .launch_cache import launch_cached
from .score_grad import score_grad_block


def sizes(score: Score, workspace: int) -> tuple[int, int]:
    """Rows and columns of a block, whole tiles: as many of each as fit, or all of the fewer and more of the others."""
    tile = shapes.wide("score_grad", score).rows
    most = max(1, workspace // (score.x.dtype.itemsize * tile * tile))  # tiles
    rows, cols = cdiv(score.N, tile), cdiv(score.M, tile)
    side = max(1, math.isqrt(most))
    if score.symmetric:
        return min(rows, side) * tile, min(rows, side) * tile
    few = min(rows, cols, side)
    return (few * tile, min(cols, most // few) * tile) if rows <= cols else (min(rows, most // few) * tile, few * tile)


def pull_back(
    score: Score, op: str, sides: Sides, loss_scale: Tensor, grads: Gradients, workspace: int, psi: Tensor | None = None
) -> None:
    """Add all gradients; U still lacks the factor `loss_scale`. With `psi` (N,), 0 before, also Σ_j ψ(s_ij).

    Of a symmetric problem both sides are the same, and each pair stands for two; unless psi is asked for.
    """
    problem = Problem.of(score)
    half = score.symmetric and psi is None
    rows, cols = sizes(score, workspace)
    room = problem.x.new_empty(rows, cols)
    factor = (loss_scale * score.scale).to(score.dtype)
    target = grads.x if score.y is None else grads.y
    for first in range(0, score.N, rows):
        here = slice(first, min(score.N, first + rows))
        for begin in range(first if half else 0, score.M, cols):
            there = slice(begin, min(score.M, begin + cols))
            twice = half and begin == first  # each pair of the block is there from both its ends
            u = room[: here.stop - here.start, : there.stop - there.start]
            _score_grad(problem, op, sides, here, there, u, loss_scale * 0.5 if twice else loss_scale, grads, psi)
            if grads.x.numel():
                grads.x[here].addcmul_(product(u, problem.y[there], score.dtype), factor)
            if target.numel() and not twice:
                target[there].addcmul_(product(u.T, problem.x[here], score.dtype), factor)


def _score_grad(
    problem: Problem, op: str, sides: Sides, here: slice, there: slice, u: Tensor, loss_scale: Tensor, grads: Gradients,
    psi: Tensor | None,
) -> None:  # fmt: skip
    """U of a block, and what is summed over it."""
    shape, score = shapes.wide("score_grad", problem.score), problem.score
    down, across = cdiv(len(u), shape.rows), cdiv(u.shape[1], shape.cols)
    psi_row, bias_row, scale_part = (
        score.x.new_empty(across, len(u), dtype=score.dtype) if on else None
        for on in (psi is not None, grads.row_bias.numel(), grads.scale.numel())
    )
    bias_col = score.x.new_empty(down, u.shape[1], dtype=score.dtype) if grads.col_bias.numel() else None
    launch_cached(
        score_grad_block, (down * across,),
        problem.x, problem.y, u, score.scale, problem.pairs, *sides, psi_row, bias_row, bias_col, scale_part,
        here.start, here.stop, there.start, there.stop, u.stride(0), D=score.D, BD=shapes.chunk(score),
        LSE=op == "logsumexp", **problem.phi, **run_options(shape),
    )  # fmt: skip
    if psi is not None:
        assert psi_row is not None
        psi[here] += merged(psi_row, "sum")
    add_sums(grads, here, there, loss_scale, bias_row, bias_col, scale_part)
