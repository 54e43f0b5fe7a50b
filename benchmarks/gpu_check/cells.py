"""The grid of sizes, foremost first: what a first run on a GPU must know before its time is up."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

LOSSES = ("clip_loss", "nt_xent", "siglip_loss", "info_nce", "kde_entropy")
FOREMOST, FOREMOST_FP32 = (16384, 128), (8192, 128)
ROWS, DIMENSIONS = (1024, 4096, 16384, 65536, 262144), (128, 256, 512, 1024)


@dataclass(frozen=True)
class Cell:
    """compilers  whether those take part whose first call takes seconds"""

    problem: str
    N: int
    D: int
    dtype: str
    compilers: bool = False

    @property
    def name(self) -> str:
        return f"{self.problem} {self.N} × {self.D} {self.dtype}{', compilers' * self.compilers}"


def cells(dry: bool) -> list[Cell]:
    if dry:
        bf16 = [Cell(problem, 64, 16, "bf16") for problem in LOSSES]
        return [*bf16, Cell("nt_xent", 64, 16, "fp32", compilers=True)]
    first = [Cell(problem, *FOREMOST, "bf16") for problem in LOSSES]
    first += [Cell(problem, *FOREMOST_FP32, "fp32") for problem in LOSSES]
    first += [Cell(problem, *FOREMOST, "bf16") for problem in ("sup_con", "dcl")]
    first += [Cell(problem, 65536, 128, "bf16") for problem in LOSSES]
    first += [Cell(problem, *FOREMOST, "bf16", compilers=True) for problem in ("info_nce", "clip_loss")]
    first += [Cell(problem, 16384, D, "bf16") for D in (512, 256) for problem in LOSSES]
    first += [Cell("nt_xent", 262144, 128, "bf16"), Cell("clip_loss", 262144, 128, "bf16")]
    first += [Cell(problem, *FOREMOST, "bf16", compilers=True) for problem in ("nt_xent", "siglip_loss", "kde_entropy")]
    grid = [Cell(problem, N, D, dtype) for dtype, N, D, problem in product(("bf16", "fp32"), ROWS, DIMENSIONS, LOSSES)]
    # Small ones before large ones: more of them are reached.
    grid.sort(key=lambda cell: cell.N * cell.N * cell.D)
    known = {cell.name for cell in first}
    return first + [cell for cell in grid if cell.name not in known]
