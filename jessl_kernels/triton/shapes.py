"""The shapes of tiles for each problem: a table, so that every shape that ships was compiled and inspected."""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import torch

from ..backends.products import tf32 as tf32
from ..problem.score import Score

LEAST_TILE = 16  # the fewest rows, and columns, of a product
FEW_DIMENSIONS = 16  # up to here the fused kernels take distances by differences


class Shape(NamedTuple):
    """BM rows, BN columns, and the launch options of a program.

    registers  the most registers of a thread; with None NVIDIA's assembler may spill a few to make room for another program
    """

    rows: int
    cols: int
    warps: int
    stages: int
    registers: int | None = None


# Keys are padded dimensions. "sums" keeps a tile of x in registers, "attend" and "pull" also a tile of the result. TF32 elements
# take twice the room of bf16 elements, and in 256 dimensions no shape fits every GPU.
SUMS = {D: Shape(128, 64, 8, 3) for D in (16, 32, 64, 128)} | {256: Shape(64, 64, 4, 2, 255)}
PULL = {16: Shape(64, 32, 4, 3, 255), 32: Shape(64, 32, 4, 3, 255), 64: Shape(64, 32, 4, 3, 224), 128: Shape(64, 32, 4, 2, 255),
        256: Shape(64, 32, 8, 2, 255)}  # fmt: skip
# Many kinds of exclusion take registers too.
SUMS_CROWDED = SUMS | {64: Shape(64, 64, 8, 2, 255), 128: Shape(64, 64, 8, 2, 255), 256: Shape(64, 64, 8, 2, 255)}
PULL_CROWDED = PULL | {64: Shape(32, 32, 4, 2), 128: Shape(32, 16, 4, 2), 256: Shape(32, 32, 8, 2, 255)}
PULL_HOPPER_CROWDED = PULL_CROWDED | {256: Shape(64, 16, 8, 2, 255)}
SUMS_AMD = SUMS | {D: Shape(64, 64, 4, 2) for D in (16, 32, 64, 128)}
PULL_AMD = PULL | {64: Shape(128, 32, 4, 2), 128: Shape(64, 16, 4, 2), 256: Shape(64, 16, 4, 2)}
PULL_AMD_CROWDED = PULL_AMD | {64: Shape(64, 16, 4, 2)}
SUMS_TF32 = {16: Shape(128, 64, 8, 3), 32: Shape(128, 64, 8, 3), 64: Shape(64, 64, 4, 2), 128: Shape(64, 64, 4, 2, 255)}
PULL_TF32 = {
    16: Shape(64, 32, 4, 2, 160),
    32: Shape(64, 32, 4, 2),
    64: Shape(64, 32, 4, 2),
    128: Shape(64, 32, 4, 2, 255),
}
SUMS_TF32_CROWDED = SUMS_TF32 | {64: Shape(64, 64, 8, 2), 128: Shape(64, 64, 8, 2)}
PULL_TF32_CROWDED = PULL_TF32 | {128: Shape(32, 32, 4, 2)}
# Four of Hopper's warps multiply together (wgmma), so its tiles may be larger. These are the fastest on an H200 among those that
# spill nothing, for half precision and scores with a few excluded diagonals; "both" sums columns too, "pull both" has two sides.
HOPPER = {
    "sums": {16: Shape(64, 128, 4, 3), 32: Shape(64, 128, 4, 3), 64: Shape(128, 64, 4, 3), 128: Shape(128, 64, 8, 3),
             256: Shape(128, 64, 8, 3)},
    "both": {16: Shape(128, 64, 4, 3), 32: Shape(128, 64, 4, 3), 64: Shape(128, 64, 4, 3), 128: Shape(128, 64, 8, 3),
             256: Shape(64, 64, 4, 2)},
    "attend": {16: Shape(64, 128, 4, 3), 32: Shape(64, 128, 4, 3), 64: Shape(64, 64, 4, 3), 128: Shape(64, 64, 4, 3),
               256: Shape(128, 64, 8, 2)},
    "pull": {16: Shape(64, 64, 4, 3), 32: Shape(64, 64, 4, 3), 64: Shape(64, 64, 4, 3), 128: Shape(64, 128, 4, 3),
             256: Shape(128, 64, 8, 2)},
    "pull both": {16: Shape(64, 128, 4, 2), 32: Shape(64, 128, 4, 2), 64: Shape(64, 128, 4, 2), 128: Shape(64, 128, 4, 2),
                  256: Shape(64, 32, 4, 3)},
    "pull both scale": {16: Shape(64, 64, 4, 3), 32: Shape(64, 64, 4, 3), 64: Shape(64, 64, 4, 3), 128: Shape(64, 64, 4, 3),
                        256: Shape(64, 32, 4, 3)},
    "pull psi": {16: Shape(64, 64, 4, 3), 32: Shape(64, 64, 4, 3), 64: Shape(64, 64, 4, 3), 128: Shape(64, 64, 4, 3),
                 256: Shape(64, 32, 4, 3)},
}  # fmt: skip
# In more dimensions a tile is made from chunks of 128 bytes of its rows; a block of U always is.
CHUNK = 128
WIDE = Shape(128, 64, 8, 2)
WIDE_SMALL = Shape(64, 64, 8, 2, 255)  # if two exponentials, or many kinds of exclusion, take registers too
HOPPER_WIDE = {"sums": Shape(128, 128, 8, 4), "both": Shape(128, 64, 8, 3), "score_grad": Shape(128, 64, 8, 3)}
DIFFERENCES = Shape(16, 32, 4, 1, 128)
DIFFERENCES_WIDE = Shape(16, 32, 4, 1, 255)  # in fp64
STRIP = Shape(16, 128, 4, 1, 255)  # 16 elements a thread, in mostly 150 registers: three programs a processor
STRIP_WIDE = Shape(16, 64, 8, 1, 255)  # in fp64


def padded(D: int) -> int:
    """D rounded up for tensor cores: a power of 2, at least 16."""
    return max(16, 1 << (D - 1).bit_length())


def route(score: Score) -> str:
    """The kernels that make gradients: "fused", "blocks" of U, or "strips" of scores, which also make the values."""
    if score.kind == "sqdist":
        return "fused" if score.D <= FEW_DIMENSIONS else "strips"
    if score.x.dtype not in (torch.bfloat16, torch.float16) and not tf32(score.x.dtype):
        return "strips"
    return "fused" if _on_chip(score) else "blocks"


def strip(score: Score) -> Shape:
    """The shape of the kernels over strips."""
    return STRIP_WIDE if score.dtype == torch.float64 else STRIP


def _on_chip(score: Score) -> bool:
    return padded(score.D) in (PULL_TF32 if tf32(score.x.dtype) else PULL)


@functools.cache
def hopper(device: torch.device) -> bool:
    """Whether the device multiplies with wgmma, which later GPUs do not have."""
    here = device.type == "cuda" and torch.cuda.is_available() and torch.version.hip is None
    return here and torch.cuda.get_device_capability(device)[0] == 9


def of(kernel: str, score: Score, tilts: int = 1) -> Shape:
    """The shape of a kernel: "sums" (of rows), "both" (of both sides), "attend", "pull", "pull both", "pull both scale" or
    "pull psi"."""
    crowded = tilts > 1 or _crowded(score)  # several tilts take registers too
    if score.kind == "sqdist":
        return DIFFERENCES_WIDE if score.dtype == torch.float64 else DIFFERENCES
    if not _on_chip(score):
        return wide(kernel, score)
    if hopper(score.x.device) and _plain(score) and not crowded:
        return HOPPER[kernel][padded(score.D)]
    if tf32(score.x.dtype):
        sums, pull = (SUMS_TF32_CROWDED, PULL_TF32_CROWDED) if crowded else (SUMS_TF32, PULL_TF32)
    elif torch.version.hip is not None:
        sums, pull = SUMS_AMD, PULL_AMD_CROWDED if crowded else PULL_AMD
    elif crowded:
        sums, pull = SUMS_CROWDED, PULL_HOPPER_CROWDED if hopper(score.x.device) else PULL_CROWDED
    else:
        sums, pull = SUMS, PULL
    return (sums if kernel in ("sums", "both") else pull)[padded(score.D)]


def wide(kernel: str, score: Score) -> Shape:
    """The shape of tiles that are made a chunk of dimensions at a time: "sums", "both", or "score_grad"."""
    if hopper(score.x.device) and _plain(score):
        return HOPPER_WIDE[kernel]
    return WIDE_SMALL if kernel == "score_grad" or _crowded(score) else WIDE


def _plain(score: Score) -> bool:
    few = len(score.exclude.diagonals) <= 3 and not score.exclude.keep and _ids(score) == 0
    half = score.x.dtype in (torch.bfloat16, torch.float16)
    one_bias = score.row_bias is None or score.col_bias is None
    return half and few and one_bias and score.phi.name == "identity"


def _crowded(score: Score) -> bool:
    exclude, ids = score.exclude, _ids(score)
    diagonals = len(exclude.diagonals) + len(exclude.keep)
    more = ids > 0 or score.phi.name != "identity"
    return diagonals > 4 or (diagonals > 2 and more) or ids > 1


def _ids(score: Score) -> int:
    """The number of pairs of ids that exclude something."""
    further = (score.without is not None) + (score.within is not None)
    return len(score.exclude.same) + len(score.exclude.different) + further


def chunk(score: Score) -> int:
    """The dimensions of a chunk, if a tile is not made from all of them at once."""
    return min(padded(score.D), CHUNK // score.x.dtype.itemsize)


def held(score: Score) -> int:
    """The dimensions of a row that the fused kernels hold at a time."""
    return padded(score.D) if score.kind == "sqdist" or _on_chip(score) else chunk(score)


def around(kernel: str, score: Score) -> list[Shape]:
    """The shapes that `tune.py` tries beside the table's: its neighbours, and all of a few sizes."""
    table = of(kernel, score)
    if score.kind == "sqdist":
        sizes = (16, 32), (32, 64), (4, 8), (1,)
    else:
        sizes = (64, 128), (64, 128) if kernel in ("sums", "both") else (32, 64, 128), (4, 8), (2, 3)
    numbers = [*itertools.product(*sizes), *_neighbours(table)]
    return [Shape(*shape) for shape in dict.fromkeys(numbers)]


def _neighbours(shape: Shape) -> list[tuple[int, ...]]:
    """Half and twice the rows or the columns, the other number of warps, a stage more or less."""
    rows, cols, warps, stages = shape[:4]
    taller = [(r, cols, warps, stages) for r in (rows // 2, 2 * rows) if r >= LEAST_TILE]
    wider = [(rows, c, warps, stages) for c in (cols // 2, 2 * cols) if c >= LEAST_TILE]
    others = [(rows, cols, w, stages) for w in (4, 8) if w != warps]
    return [*taller, *wider, *others, *((rows, cols, warps, n) for n in (stages - 1, stages + 1) if n > 0)]
