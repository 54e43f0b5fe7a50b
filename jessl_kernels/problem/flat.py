"""A problem as the arguments of an operator's schema: tensors, of which those that may have gradients come first, and words.

torch.func and compilers see only tensors that are arguments of a function, so a problem is taken apart before a call and put
together again inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import phi
from .exclude import Exclude, Guide, IdPair
from .row_loss import Positives, RowProblem
from .types import Terms

Tensors = tuple[Tensor | None, ...]

# The present tensors of `tensors_of`, flags for the present ones, and the `Words`. There is no list of optional tensors, because
# torch's operators give the members of such a list no gradient as soon as one is None.
SCHEMA = (
    "Tensor[] tensors, bool[] there, int x, int y, int same, int different, int guide, SymInt[] diagonals, SymInt[] keep, "
    "SymInt? shift, str kind, str phi, float[] phi_parameters, float skip_below, str negatives, float[] tilts, "
    "bool negative_linear, str of_positives, float[] positive_tilts, bool positive_linear, bool normalize, bool cols"
)
SINGLE = 6  # tensors that may have gradients and are no pieces: scale, biases, positives' scores, also


class Words(NamedTuple):
    """The parts of a problem that are no tensors. x, y, same, different and guide are numbers of tensors. scale is α if it is a
    number, and None if it is a tensor, as always in a schema: a compiler would make a new program for each new number."""

    x: int
    y: int
    same: int
    different: int
    guide: int
    diagonals: Sequence[int]
    keep: Sequence[int]
    shift: int | None
    kind: str
    phi: str
    phi_parameters: Sequence[float]
    skip_below: float
    negatives: str
    tilts: Sequence[float]
    negative_linear: bool
    of_positives: str
    positive_tilts: Sequence[float]
    positive_linear: bool
    normalize: bool
    cols: bool
    scale: float | None = None

    @property
    def differentiable(self) -> int:
        """The number of tensors that may have gradients; they come first."""
        return self.x + self.y + SINGLE


def words_of(problem: RowProblem) -> Words:
    """The parts of a problem that are no tensors."""
    exclude = problem.exclude
    return Words(
        len(problem.x), len(problem.y), 2 * len(exclude.same), 2 * len(exclude.different), len(exclude.guide or ()),
        exclude.diagonals, exclude.keep, problem.positives.shift, problem.kind, problem.phi.name, problem.phi.parameters,
        problem.skip_below,
        *problem.negatives, *problem.of_positives, problem.normalize, problem.cols,
        None if isinstance(problem.scale, Tensor) else problem.scale,
    )  # fmt: skip


def tensors_of(problem: RowProblem) -> Tensors:
    """Pieces of X and of Y; scale, biases, positives' scores, `also`; ids of `exclude`, a guide, positives' index or ids."""
    exclude, positives = problem.exclude, problem.positives
    return (
        *problem.x, *problem.y, problem.scale if isinstance(problem.scale, Tensor) else None, problem.row_bias,
        problem.col_bias, positives.score, positives.col_score, problem.also,
        *(ids for pair in exclude.same for ids in pair), *(ids for pair in exclude.different for ids in pair),
        *(exclude.guide or ()), positives.index, positives.row_ids, positives.col_ids,
    )  # fmt: skip


def together(words: Words, tensors: Tensors) -> RowProblem:
    """The problem of these words and tensors."""
    rest = list(tensors)

    def taken(count: int) -> tuple:
        front, rest[:] = tuple(rest[:count]), rest[count:]
        return front

    def pairs(count: int) -> tuple[IdPair, ...]:
        ids = taken(count)
        return tuple(zip(ids[::2], ids[1::2], strict=True))

    x, y = taken(words.x), taken(words.y)
    scale, row_bias, col_bias, score, col_score, also = taken(SINGLE)
    same, different = pairs(words.same), pairs(words.different)
    guide = Guide(*taken(words.guide)) if words.guide else None
    index, row_ids, col_ids = taken(3)
    return RowProblem(
        x=x,
        y=y,
        scale=scale if words.scale is None else words.scale,
        row_bias=row_bias,
        col_bias=col_bias,
        exclude=Exclude(tuple(words.diagonals), same, different, tuple(words.keep), guide),
        kind=words.kind,
        phi=phi.build(words.phi, list(words.phi_parameters)),
        skip_below=words.skip_below,
        positives=Positives(words.shift, index, row_ids, col_ids, score, col_score),
        negatives=Terms(words.negatives, tuple(words.tilts), words.negative_linear),
        of_positives=Terms(words.of_positives, tuple(words.positive_tilts), words.positive_linear),
        normalize=words.normalize,
        cols=words.cols,
        also=also,
    )


ARGUMENTS = len(Words._fields) + 1  # the arguments of `SCHEMA`


def to_schema(words: Words, tensors: Tensors) -> tuple:
    """The arguments of `SCHEMA`."""
    given, (*others, number) = list(tensors), words
    if number is not None:
        x = tensors[0]
        assert x is not None
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        given[words.x + words.y] = torch.full((), number, dtype=wide, device=x.device)
    there = [t is not None for t in given]
    lists = (list(word) if isinstance(word, tuple) else word for word in others)
    return [t for t in given if t is not None], there, *lists


def from_schema(given: Sequence[Tensor], there: Sequence[bool], *words: Any) -> tuple[Words, Tensors]:
    """The words and the tensors of a problem, from the arguments of `SCHEMA`."""
    rest = iter(given)
    return Words(*words), tuple([next(rest) if is_there else None for is_there in there])
