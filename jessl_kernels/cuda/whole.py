"""A loss of rows in one call of C++ (csrc/cuda/whole.h), for problems that need no strips."""

from __future__ import annotations

import torch
from torch import Tensor

from ..problem.join import JOINS
from ..problem.row_loss import Loss, RowProblem
from ..problem.types import NOTHING, Gradients, Needs
from .arguments import FP32, MOST_PIECES, Sweep, pieces_of
from .pairs import few, targets, without_strips


def in_one_call(problem: RowProblem, loss: Loss) -> bool:
    """Whether `row_loss` has all that the loss needs."""
    given = problem.positives.score is not None or problem.also is not None
    if given or problem.negatives.linear or max(len(problem.x), len(problem.y)) > MOST_PIECES:
        return False
    return len(problem.negatives.tilts) == JOINS[loss.join].tilts and without_strips(problem)


def row_loss(problem: RowProblem, loss: Loss, needs: Needs) -> tuple[Tensor, Gradients]:
    """The value, 0-d, and the gradients."""
    first, positives, terms = problem.first, problem.positives, problem.of_positives
    sweep = Sweep(problem, problem.negatives)
    single = positives.shift is not None or positives.index is not None
    ids = sweep.vector(positives.row_ids), sweep.vector(positives.col_ids)
    of_positives = single, (positives.shift or 0) % problem.M, sweep.vector(positives.index), ids, terms.op, terms.tilts
    weights = (sweep.vector(None if t is None else t.to(FP32)) for t in (loss.weights, loss.col_weights))
    x, y = map(pieces_of, (problem.x, problem.y))
    whole = sweep.kernels.whole(
        x, y, problem.N, problem.M, problem.kind == "sqdist", few(problem), problem.normalize, problem.cols, of_positives,
        (loss.join, loss.reduction, loss.factor, *weights), needs.of_pairs,
    )  # fmt: skip
    value = first.new_empty((), dtype=FP32)
    made = Gradients.empty(value, problem, needs if needs.of_pairs else NOTHING)
    room = first.new_empty(whole.room, dtype=torch.uint8)
    whole.run(room.data_ptr(), value.data_ptr(), targets(made, needs))
    return value, made
