"""What the package claims of its kernels, checked against the figures."""

from __future__ import annotations

from collections.abc import Iterable

from .contenders import OURS, WIDEST_FUSED
from .model import Figure
from .occupancy import Fit


def claims(figures: list[Figure], compiled: list[Fit]) -> list[tuple[str, str]]:
    """Each claim, and "holds", or where it does not."""
    mine = [f for f in figures if f.who == OURS and f.work]
    built = [k for k in compiled if k.who == OURS]
    rows = [(f, g) for f in mine for g in figures if _rival(f, g)]
    spilling = sorted({(f"{k.kernel} of {k.loss}, D = {k.D}, {k.target}", k.spilled) for k in built if k.spilled})
    return [
        (
            "products: InfoNCE 4, NT-Xent 3, CLIP 5 and SigLIP 4 up to D = 256; in blocks above, CLIP 4, SigLIP 3, and NT-Xent "
            "less than 3",
            _holds(_others(mine)),
        ),
        (
            "no more products than any rival, but for SigLIP up to D = 256, which makes each score twice, 4 products, "
            "where siglip-kernel makes them once, 3, and keeps them",
            _holds(
                f"{f.loss}, D = {f.D}: {f.products:.2f}, {g.who} {g.products:.2f}"
                for f, g in rows
                if _more(f, g) and not (f.loss == "SigLIP" and f.D <= WIDEST_FUSED)
            ),
        ),
        (
            "SigLIP up to D = 256 keeps no score, and reads and writes less memory than siglip-kernel",
            _holds(
                f"D = {f.D}, {f.device}: {f.step.memory:.1f} bytes a pair, {g.who} {g.step.memory:.1f}"
                for f, g in rows
                if f.loss == "SigLIP" and f.D <= WIDEST_FUSED and f.step.memory >= g.step.memory
            ),
        ),
        (
            "one exponential a score and pass (rows add one for each tile), where log-sum-exps lie near each other",
            _holds(
                f"{f.loss}, D = {f.D}, {name}: {step.exponentials:.2f} in {passes(f, name)} passes"
                for f in mine
                for name, step in f.work.items()
                if passes(f, name) and step.exponentials > 1.2 * passes(f, name)
            ),
        ),
        ("no atomics", _holds(f"{k.kernel}, {k.target}" for k in built if k.atomics)),
        ("no registers spilled", _holds(f"{what}: {spilled} bytes" for what, spilled in spilling)),
        (
            "one program at least on each multiprocessor",
            _holds(f"{k.kernel} of {k.loss}, D = {k.D}, {k.target}" for k in built if not k.programs),
        ),
        (
            "modelled no slower than any rival",
            _holds(_slower(rows)),
        ),
    ]


def passes(figure: Figure, kernel: str) -> int:
    """How many times a kernel sweeps over all scores."""
    if kernel == "pull" and figure.loss in ("CLIP", "SigLIP"):
        return 2
    return 1 if kernel in ("row_sums", "pull", "score_grad_block") else 0


def _rival(f: Figure, g: Figure) -> bool:
    return g.who != OURS and bool(g.work) and (f.loss, f.D, f.device) == (g.loss, g.D, g.device)


def _more(f: Figure, g: Figure) -> bool:
    return f.products > g.products + 0.01


def _slower(rows: list[tuple[Figure, Figure]]) -> list[str]:
    found: dict[str, list[str]] = {}
    for f, g in rows:
        if f.seconds > 1.01 * g.seconds:
            found.setdefault(f"{f.loss}, D = {f.D}, {g.who}", []).append(f"{f.device} ×{f.seconds / g.seconds:.2f}")
    return [f"{what}: {', '.join(times)} of its time" for what, times in found.items()]


def _others(mine: list[Figure]) -> list[str]:
    """Who takes other products than are claimed."""
    fused, blocks = ({"InfoNCE": 4, "CLIP": 5, "NT-Xent": 3, "SigLIP": 4}, {"InfoNCE": 4, "CLIP": 4, "SigLIP": 3})
    found = []
    for f in mine:
        claimed = (fused if f.D <= WIDEST_FUSED else blocks).get(f.loss)
        if (claimed and abs(f.products - claimed) > 0.01) or (f.loss == "NT-Xent" and f.products > 3.01):
            found.append(f"{f.loss}, D = {f.D}: {f.products:.2f}")
    return sorted(set(found))


def _holds(exceptions: Iterable[str]) -> str:
    found = list(dict.fromkeys(exceptions))
    return "holds" if not found else "does not hold: " + "; ".join(found)
