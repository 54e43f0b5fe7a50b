"""The grid: which problem at which N (rows of the score matrix), D and dtype, in the order in which it runs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from .contenders import contenders
from .problems import INFORMATION, LOSSES, OTHERS, PROBLEMS

ROWS, DIMENSIONS = (64, 256, 1024, 4096), (16, 128, 512)
COMPILED_DIMENSIONS = (128, 512)  # a shape takes torch.compile several times as long as all others together
HALF_ROWS, HALF_DIMENSIONS = (1024, 4096), (128, 512)
PLAIN = (8192, 128, "float32")
HALF_LIMIT = 10.0  # seconds of a call: without AVX-512 the matrix form takes minutes in bf16
KDE_ROWS, KDE_DIMENSIONS = 16_384, (2, 4, 16, 128)
GPU_ROWS, GPU_DIMENSIONS = (1024, 4096, 16_384, 65_536, 262_144), (128, 256, 512, 1024)
GPU_LOSSES = ("clip_loss", "nt_xent", "siglip_loss", "info_nce", "kde_entropy")


@dataclass(frozen=True)
class Cell:
    """One problem at one size, timed by `contenders`, all in turn.

    limit  seconds that one call may take, if not those of the run
    """

    problem: str
    N: int
    D: int
    dtype: str = "float32"
    contenders: tuple[str, ...] = ()
    limit: float | None = None

    @property
    def key(self) -> str:
        return f"{self.problem} {self.N} × {self.D} {self.dtype}"

    @property
    def flops(self) -> float:
        return PROBLEMS[self.problem].flops(self.N, self.D)


def cell(
    problem: str,
    N: int,
    D: int,
    dtype: str = "float32",
    *,
    device: str = "cpu",
    compilers: bool = True,
    without: tuple[str, ...] = (),
    limit: float | None = None,
) -> Cell:
    """With all contenders of the problem on the device; compilers=False leaves out those that compile. Ours without the extension
    is timed at one size."""
    left_out = without if (N, D, dtype) == PLAIN else (*without, "plain")
    every = contenders(problem, device).items()
    names = (name for name, c in every if (compilers or not c.compiles) and name not in left_out)
    return Cell(problem, N, D, dtype, tuple(names), limit)


def quick() -> list[Cell]:
    """Minutes on a CPU: every loss at one small and one middling size, one density, and every other operation once."""
    losses = [cell(loss, N, 128, compilers=False) for N in (256, 2048) for loss in LOSSES]
    densities = [cell(kind, 2048, 16, compilers=False) for kind in ("kde_entropy", "kde_value")]
    return [*losses, *densities, *(cell(name, 256, 128, compilers=False) for name in OTHERS)]


def full() -> list[Cell]:
    """The report of a CPU. Small cells come first: what a contender took there tells whether it can finish the next."""

    def losses(rows: tuple[int, ...], dimensions: tuple[int, ...], dtype: str = "float32") -> list[Cell]:
        # By N, then by loss: so the deadline cuts the largest, and no loss before the others.
        compiled, limit = (COMPILED_DIMENSIONS, None) if dtype == "float32" else ((), HALF_LIMIT)
        return [
            cell(loss, N, D, dtype, compilers=D in compiled, without=("keops",), limit=limit)
            for N, D, loss in product(rows, dimensions, LOSSES)
        ]

    # Three losses of half a minute a call: the report lists each rival's reason for failing there.
    largest = [cell(loss, 65_536, 128, without=("keops",)) for loss in ("clip_loss", "nt_xent", "kde_entropy")]
    others = [
        cell(name, N, 128, compilers=name not in INFORMATION)
        for N in (512, 4096)
        for name in OTHERS
        if N == 512 or name not in ("queue", "mi_joint")
    ]
    # A critic of all pairs at once is timed where its matrix form fits.
    information = [cell(name, 8192, 128, compilers=False) for name in INFORMATION if name != "mi_joint"]
    information.append(cell("mi_joint", 1024, 128, compilers=False))
    # KeOps and scikit-learn's trees take a minute and a half in D = 128, and must be in the report.
    densities = [
        cell(kind, KDE_ROWS, D, limit=180.0 if D == 128 else 60.0)
        for D, kind in product(KDE_DIMENSIONS, ("kde_entropy", "kde_value"))
    ]
    half = losses(HALF_ROWS, HALF_DIMENSIONS, "bfloat16")
    large = [*losses((8192,), (128, 512)), *densities, *losses((16_384,), (128,)), *largest, *skipping()]
    return _first_of_each([*losses(ROWS, DIMENSIONS), *others, *information, *half, *large])


def _first_of_each(grid: list[Cell]) -> list[Cell]:
    """A size that stands in two lists is measured once, with the contenders of the first."""
    found: dict[str, Cell] = {}
    for c in grid:
        found.setdefault(c.key, c)
    return list(found.values())


def skipping() -> list[Cell]:
    """Problems in which most pairs cannot matter."""
    sizes = (("kde_clustered", 100_000, 2), ("kde_clustered", 100_000, 16), ("nt_xent_trained", 16_384, 128))
    # Their time does not grow with D as an estimate by flops has it, so that the limit must leave room.
    return [cell(*size, limit=180.0) for size in sizes]


def long() -> list[Cell]:
    """Minutes for one call."""
    bounds = [Cell(name, 65_536, 128, contenders=("ours",), limit=900.0) for name in INFORMATION if name != "mi_joint"]
    return [*bounds, Cell("nt_xent", 262_144, 128, contenders=("ours",), limit=900.0)]


def gpu() -> list[Cell]:
    """The report of a GPU, foremost sizes first: what a first run must know before its time is up."""

    def of(problems: tuple[str, ...], N: int, D: int, dtype: str = "bfloat16", compilers: bool = False) -> list[Cell]:
        return [cell(problem, N, D, dtype, device="cuda", compilers=compilers) for problem in problems]

    first = [
        *of(GPU_LOSSES, 16_384, 128),
        *of(GPU_LOSSES, 8192, 128, "float32"),
        *of(("sup_con", "dcl", "uniformity"), 16_384, 128),
        *of(GPU_LOSSES, 65_536, 128),
        *of(("info_nce", "clip_loss"), 8192, 128, compilers=True),
        *(c for D in (512, 256, 768) for c in of(GPU_LOSSES, 16_384, D)),
        *of(tuple(name for name in OTHERS if name not in INFORMATION), 4096, 128, "float32"),
        *of(("nt_xent", "clip_loss"), 262_144, 128),
        *of(("nt_xent", "siglip_loss", "kde_entropy"), 8192, 128, compilers=True),
        *of(INFORMATION, 4096, 128, "float32"),
    ]
    grid = [
        c
        for dtype, N, D in product(("bfloat16", "float32"), GPU_ROWS, GPU_DIMENSIONS)
        for c in of(GPU_LOSSES, N, D, dtype)
    ]
    # Small ones before large ones: more of them are reached.
    grid.sort(key=lambda c: c.flops)
    return _first_of_each([*first, *grid])


def dry() -> list[Cell]:
    """On the executor of the tests, in a minute: every loss of a GPU once."""
    return [cell(loss, 64, 16, "bfloat16", device="cuda", compilers=False) for loss in GPU_LOSSES]
