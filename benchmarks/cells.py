"""The grid: which problem at which N (rows of the score matrix) and D, in the order in which they run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .contenders import contenders
from .problems import LOSSES, PROBLEMS

ROWS, DIMENSIONS = (64, 256, 1024, 4096), (16, 64, 128, 256, 512, 768)
# KeOps compiles three formulas for each D, a quarter of a minute; it is asked where kernel density is compared.
KDE_ROWS, KDE_DIMENSIONS = 16_384, (2, 4, 16, 128)


@dataclass(frozen=True)
class Cell:
    """One problem at one size, timed by `contenders`, all in turn.

    limit  seconds that one call may take, if not those of the run
    """

    problem: str
    N: int
    D: int
    contenders: tuple[str, ...]
    limit: float | None = None

    @property
    def key(self) -> str:
        return f"{self.problem}/{self.N}/{self.D}"

    @property
    def flops(self) -> float:
        """What the mathematics needs."""
        return PROBLEMS[self.problem].products * 2 * self.N**2 * self.D


def cell(problem: str, N: int, D: int, *, without: tuple[str, ...] = (), alone: bool = False) -> Cell:
    """All contenders of the problem, or ours alone."""
    names = ("ours",) if alone else tuple(name for name in contenders(problem) if name not in without)
    return Cell(problem, N, D, names)


def quick() -> list[Cell]:
    """Under three minutes: every loss at one small and one middling size, and one density."""
    grid = [cell(loss, N, 128, without=("keops",)) for N in (256, 2048) for loss in LOSSES]
    return [*grid, cell("kde_entropy", 2048, 16), cell("kde_value", 2048, 16)]


def full() -> list[Cell]:
    """The whole report. Small first: what a contender took there tells whether it can finish the next."""

    def losses(rows: tuple[int, ...], dimensions: tuple[int, ...]) -> list[Cell]:
        # By N, then by loss: so the deadline cuts the largest, and no loss before the others.
        return [cell(loss, N, D, without=("keops",)) for N in rows for D in dimensions for loss in LOSSES]

    alone = [cell(loss, 65_536, 128, alone=True) for loss in LOSSES]
    densities = [cell(kind, KDE_ROWS, D) for D in KDE_DIMENSIONS for kind in ("kde_entropy", "kde_value")]
    # KeOps and scikit-learn's trees take a minute and a half in D = 128, and are to be seen there.
    densities[-2:] = [replace(c, limit=180.0) for c in densities[-2:]]
    grid = [*losses(ROWS, DIMENSIONS), *losses((8192,), (128, 512)), *alone, *densities, *skipping()]
    return _first_of_each([*grid, *losses((16_384,), (128, 512))])


def skipping() -> list[Cell]:
    """Under two minutes: problems in which most pairs cannot matter."""
    sizes = (("kde_clustered", 100_000, 2), ("kde_clustered", 100_000, 16), ("nt_xent_trained", 16_384, 128))
    # Their time does not grow with D as an estimate by flops has it, so that the limit must leave room.
    return [replace(cell(*size), limit=180.0) for size in sizes]


def _first_of_each(grid: list[Cell]) -> list[Cell]:
    """kde_entropy at 16,384 × 128 stands in two lists; the one with more contenders comes first."""
    found: dict[str, Cell] = {}
    for c in grid:
        found.setdefault(c.key, c)
    return list(found.values())


def long() -> list[Cell]:
    """Opt-in: minutes for one call."""
    return [Cell("nt_xent", 262_144, 128, ("ours",), limit=900.0)]
