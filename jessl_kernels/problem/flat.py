"""A problem as an operator's schema spells it: tensors, those that have gradients first, and words.

torch.func and compilers see the tensors among a function's arguments alone, so a problem is taken apart before it is handed to
one, and put together again within.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from . import phi
from .exclude import Exclude
from .row_loss import Positives, RowProblem
from .types import Terms

Tensors = tuple[Tensor | None, ...]

# In the order of `Words` and of the tensors that `apart` returns.
SCHEMA = (
    "Tensor[] x, Tensor[] y, Tensor scale, Tensor? row_bias, Tensor? col_bias, Tensor? score, Tensor? col_score, Tensor? also, "
    "Tensor[] same, Tensor[] different, Tensor? index, Tensor? row_ids, Tensor? col_ids, "
    "SymInt[] diagonals, SymInt[] keep, SymInt? shift, str kind, str phi, float[] phi_parameters, float skip_below, "
    "str negatives, float[] tilts, bool negative_linear, str of_positives, float[] positive_tilts, bool positive_linear, "
    "bool normalize, bool cols"
)
SINGLE = 6  # of the tensors with gradients, those that are no pieces: scale, biases, positives' scores, also


class Words(NamedTuple):
    """What of a problem is no tensor; `x`, `y`, `same` and `different` say how many tensors each has."""

    x: int
    y: int
    same: int
    different: int
    scale: float | None  # None where it is a tensor
    diagonals: tuple[int, ...]
    keep: tuple[int, ...]
    shift: int | None
    kind: str
    phi: str
    phi_parameters: tuple[float, ...]
    skip_below: float
    negatives: Terms
    of_positives: Terms
    normalize: bool
    cols: bool

    @property
    def differentiable(self) -> int:
        """How many tensors, all in front, may have gradients."""
        return self.x + self.y + SINGLE


def apart(problem: RowProblem) -> tuple[Words, Tensors]:
    """The words and the tensors of a problem."""
    exclude, positives = problem.exclude, problem.positives
    same, different = (tuple(ids for pair in pairs for ids in pair) for pairs in (exclude.same, exclude.different))
    number = None if isinstance(problem.scale, Tensor) else problem.scale
    words = Words(
        len(problem.x), len(problem.y), len(same), len(different), number, exclude.diagonals, exclude.keep, positives.shift,
        problem.kind, problem.phi.name, problem.phi.parameters, problem.skip_below, problem.negatives, problem.of_positives,
        problem.normalize, problem.cols,
    )  # fmt: skip
    scale = problem.scale if number is None else None
    tensors = (
        *problem.x, *problem.y, scale, problem.row_bias, problem.col_bias, positives.score, positives.col_score, problem.also,
        *same, *different, positives.index, positives.row_ids, positives.col_ids,
    )  # fmt: skip
    return words, tensors  # pyright: ignore[reportReturnType]


def together(words: Words, tensors: Tensors) -> RowProblem:
    """The problem that `apart` took apart."""
    rest = list(tensors)

    def taken(count: int) -> tuple:
        front, rest[:] = tuple(rest[:count]), rest[count:]
        return front

    x, y = taken(words.x), taken(words.y)
    scale, row_bias, col_bias, score, col_score, also = taken(SINGLE)
    same, different = (_pairs(taken(count)) for count in (words.same, words.different))
    index, row_ids, col_ids = taken(3)
    return RowProblem(
        x=x,
        y=y,
        scale=scale if words.scale is None else words.scale,
        row_bias=row_bias,
        col_bias=col_bias,
        exclude=Exclude(words.diagonals, same, different, words.keep),
        kind=words.kind,
        phi=phi.build(words.phi, list(words.phi_parameters)),
        skip_below=words.skip_below,
        positives=Positives(words.shift, index, row_ids, col_ids, score, col_score),
        negatives=words.negatives,
        of_positives=words.of_positives,
        normalize=words.normalize,
        cols=words.cols,
        also=also,
    )


def to_schema(words: Words, tensors: Tensors) -> tuple:
    """The arguments of `SCHEMA`, whose scale is always a tensor: a compiler would make a new program for each new number."""
    x, y = list(tensors[: words.x]), list(tensors[words.x : words.x + words.y])
    single = list(tensors[words.x + words.y : words.differentiable])
    ids = tensors[words.differentiable :]
    if single[0] is None:
        assert words.scale is not None and isinstance(x[0], Tensor)
        wide = torch.float64 if x[0].dtype == torch.float64 else torch.float32
        single[0] = torch.full((), words.scale, dtype=wide, device=x[0].device)
    same, different = list(ids[: words.same]), list(ids[words.same : words.same + words.different])
    negatives, positives = words.negatives, words.of_positives
    return (
        x, y, *single, same, different, *ids[words.same + words.different :], list(words.diagonals), list(words.keep),
        words.shift, words.kind, words.phi, list(words.phi_parameters), words.skip_below, negatives.op,
        list(negatives.tilts), negatives.linear, positives.op, list(positives.tilts), positives.linear, words.normalize,
        words.cols,
    )  # fmt: skip


class SchemaArguments(NamedTuple):
    """The arguments of `SCHEMA` by name."""

    x: list[Tensor]
    y: list[Tensor]
    scale: Tensor
    row_bias: Tensor | None
    col_bias: Tensor | None
    score: Tensor | None
    col_score: Tensor | None
    also: Tensor | None
    same: list[Tensor]
    different: list[Tensor]
    index: Tensor | None
    row_ids: Tensor | None
    col_ids: Tensor | None
    diagonals: list[int]
    keep: list[int]
    shift: int | None
    kind: str
    phi: str
    phi_parameters: list[float]
    skip_below: float
    negatives: str
    tilts: list[float]
    negative_linear: bool
    of_positives: str
    positive_tilts: list[float]
    positive_linear: bool
    normalize: bool
    cols: bool

    def apart(self) -> tuple[Words, Tensors]:
        words = Words(
            len(self.x), len(self.y), len(self.same), len(self.different), None, tuple(self.diagonals), tuple(self.keep),
            self.shift, self.kind, self.phi, tuple(self.phi_parameters), self.skip_below,
            Terms(self.negatives, tuple(self.tilts), self.negative_linear),
            Terms(self.of_positives, tuple(self.positive_tilts), self.positive_linear), self.normalize, self.cols,
        )  # fmt: skip
        tensors = (
            *self.x, *self.y, self.scale, self.row_bias, self.col_bias, self.score, self.col_score, self.also, *self.same,
            *self.different, self.index, self.row_ids, self.col_ids,
        )  # fmt: skip
        return words, tensors


def _pairs(ids: tuple) -> tuple:
    return tuple(zip(ids[::2], ids[1::2], strict=True))
