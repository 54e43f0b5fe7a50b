"""From tensors and words to the arguments of the kernels: addresses, sizes, strides."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .. import native
from ..problem.exclude import IdPair
from ..problem.row_loss import RowProblem
from ..problem.score import Score
from ..problem.types import Sums, Terms, Weights

FP32 = torch.float32
MOST_PIECES = 8  # of a batch (csrc/pairwise/problem.h)


class Sweep:
    """What the launches of one sweep share: the device and its current stream, and the words of scores and sums.

    kernels  the compiled object, whose methods are the kernels
    """

    def __init__(self, words: Score | RowProblem, terms: Terms):
        self._held: list[Tensor] = []  # the memory whose addresses the kernels have
        self._words = words
        exclude, alpha = words.exclude, words.scale
        alpha = alpha.detach().to(FP32) if isinstance(alpha, Tensor) else alpha
        scale, number = (self.vector(alpha), 0.0) if isinstance(alpha, Tensor) else (0, alpha)
        diagonals, keep = self._offsets(exclude.diagonals), self._offsets(exclude.keep)
        same, different = ([self._ids(pair) for pair in pairs] for pairs in (exclude.same, exclude.different))
        of_ids = (words.without, words.within) if isinstance(words, Score) else (None, None)
        low, high = (*words.phi.parameters, 0.0, 0.0)[:2]
        self.kernels: Any = native.cuda().Sweep(
            *_queue(words.first), words.phi.name, (low, high), scale, number, self.vector(words.row_bias),
            self.vector(words.col_bias), diagonals, keep, same, different, *map(self._ids, of_ids), terms.op, terms.tilts,
        )  # fmt: skip

    @functools.cached_property
    def scale(self) -> Tensor:
        """α, 0-d, in fp32 on the device, where a number is written, so that nobody waits for it."""
        alpha = self._words.scale
        if isinstance(alpha, Tensor):
            return alpha.detach().to(FP32)
        return self._words.first.new_full((), alpha, dtype=FP32)

    def _offsets(self, diagonals: tuple[int, ...]) -> list[int]:
        """The diagonals that the scores have."""
        N, M = self._words.N, self._words.M
        return sorted({d for d in diagonals if -N < d < M})

    def _ids(self, pair: IdPair | None) -> tuple[int, int]:
        return (0, 0) if pair is None else (self.vector(pair[0]), self.vector(pair[1]))

    def vector(self, t: Tensor | None) -> int:
        """The address of a vector without gaps, which is kept as long as this sweep."""
        if t is None:
            return 0
        self._held.append(t.contiguous())
        return self._held[-1].data_ptr()


def _queue(x: Tensor) -> tuple[int, int]:
    """The device of x and its current stream."""
    return (x.get_device(), torch.cuda.current_stream(x.device).cuda_stream) if x.is_cuda else (0, 0)


def address(t: Tensor | None) -> int:
    """0 stands for no tensor."""
    return 0 if t is None else t.data_ptr()


def points(x: Tensor | None) -> tuple[int, int, int, int, str]:
    """Embeddings: where they are, two strides, how many dimensions they have, and their type."""
    if x is None:
        return 0, 0, 0, 0, "float32"
    return x.data_ptr(), x.stride(0), x.stride(1), x.shape[1], name_of(x.dtype)


def pieces_of(tensors: Iterable[Tensor]) -> list[tuple]:
    """The pieces of a batch, and how many rows each has."""
    return [(points(piece), len(piece)) for piece in tensors]


def name_of(dtype: torch.dtype) -> str:
    """A dtype as kernels name it."""
    return str(dtype).removeprefix("torch.")


def vectors(of: Sums | Weights | None) -> tuple[int, int, int, int, int]:
    """Sums, or weights: four addresses, and the elements from one tilt to the next."""
    if of is None:
        return 0, 0, 0, 0, 0
    one, many, third, fourth = of
    return address(one), many.data_ptr(), address(third), address(fourth), many.stride(0)
