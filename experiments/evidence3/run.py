"""Critics of three capacities, encoders at equal bounds, and negatives that are not independent (sections 3.2, 3.3 and 4)."""

from __future__ import annotations

import math
from typing import Any

from jessl_kernels import mi

from .. import study
from ..plots import INK, bars, legend, row_of_panels
from ..tables import interval, table, text, values
from ..trials import Trial
from ..two_encoders import Trainer
from . import negatives
from .encoders import ENCODERS

BOUNDS = {"info_nce": "InfoNCE", "nwj": "NWJ"}
CRITICS = {
    "bilinear": mi.Bilinear,
    "separable": lambda D, E: mi.Separable(D, E, dim=100, hidden=(100,)),
    "joint": lambda D, E: mi.Joint(D, E, hidden=(200,)),
}
NETS = {"mlp": "MLP", "conv": "ConvNet"}
LEVELS = (2, 4)  # nats
COLOURS = {"bilinear": "C0", "separable": "C1", "joint": "C2"}


def run(part: str, seed: int, **settings: Any) -> dict[str, Any]:
    """One trial of a part."""
    return {"capacity": capacity, "equal": equal, "negatives": negatives.run}[part](seed=seed, **settings)


def capacity(
    data_set: str, bound: str, critic: str, batch: int, rate: float, steps: int, readings: int, seed: int
) -> dict[str, Any]:
    """MLP encoders, trained to raise a bound with this critic."""
    trainer = Trainer(data_set, "halves", bound, ENCODERS["mlp"], CRITICS[critic], batch=batch, rate=rate, seed=seed)
    return trainer.curves(steps, readings)


def equal(
    data_set: str, encoder: str, level: int, batch: int, rate: float, steps: int, readings: int, seed: int
) -> dict[str, Any]:
    """Encoders trained until InfoNCE of a bilinear critic is at a level, by the loss |bound − level|."""
    trainer = Trainer(data_set, "halves", "info_nce", ENCODERS[encoder], mi.Bilinear, batch=batch, rate=rate, seed=seed)
    return trainer.curves(steps, readings, lambda bound: (bound - level).abs())


def conditions(sizes: dict[str, Any], pairs: dict[str, Any]) -> list[dict[str, Any]]:
    """Of all parts; the cheap one first."""
    return [
        *({"part": "negatives", "bound": b, "shared": shared, **pairs} for shared in (False, True) for b in BOUNDS),
        *({"part": "capacity", "bound": b, "critic": c, **sizes} for b in BOUNDS for c in CRITICS),
        *({"part": "equal", "encoder": e, "level": t, **sizes} for t in LEVELS for e in NETS),
    ]


def last(trials: list[Trial], name: str, **settings: Any) -> list[float]:
    """The last reading of a curve, over seeds."""
    return [float(curve[-1]) for curve in values(trials, name, **settings)]


def tables(trials: list[Trial]) -> dict[str, str]:
    """One a part."""
    readings = {"bound": (".2f", 1), "accuracy": (".1f", 100), "v_information": (".3f", 1)}

    def cells(**settings: Any) -> list[str]:
        return [text(last(trials, name, **settings), form, scale) for name, (form, scale) in readings.items()]

    heads = ["bound, nats", "accuracy, %", "I_V, nats"]
    of_critics = [
        [title, c, *cells(part="capacity", bound=b, critic=c)] for b, title in BOUNDS.items() for c in CRITICS
    ]
    of_levels = [
        [f"{t} nats", title, text(last(trials, "train_bound", part="equal", level=t, encoder=e)),
         *cells(part="equal", level=t, encoder=e)]
        for t in LEVELS for e, title in NETS.items()
    ]  # fmt: skip
    of_negatives = []
    for shared, label in ((False, "independent"), (True, "one z a batch")):
        found = [text(values(trials, "estimate", part="negatives", shared=shared, bound=b), ".4f") for b in BOUNDS]
        of_negatives.append([label, f"{negatives.INFORMATION:.4f}", *found])
    return {
        "capacity": table(["bound", "critic", *heads], of_critics),
        "equal": table(["level", "encoder", "bound on training batches", *heads], of_levels),
        "negatives": table(["negatives", "I(X; Y)", *BOUNDS.values()], of_negatives),
    }


def draw(trials: list[Trial]) -> Any:
    """A panel a part."""
    figure, (of_critics, of_levels, of_negatives) = row_of_panels(3)
    for b, marker in zip(BOUNDS, "os", strict=True):
        for c, colour in COLOURS.items():
            settings = {"part": "capacity", "bound": b, "critic": c}
            point(of_critics, trials, settings, colour, marker, f"{c}, {BOUNDS[b]}")
    of_critics.set(title="critics", xlabel="bound on test pairs (nats)", ylabel="accuracy of a linear probe (%)")
    for e, marker in zip(NETS, "os", strict=True):
        for t, colour in zip(LEVELS, ("C3", "C4"), strict=True):
            point(of_levels, trials, {"part": "equal", "encoder": e, "level": t}, colour, marker, f"{NETS[e]}, t = {t}")
    of_levels.set(title="encoders trained to one bound", xlabel="bound on test pairs (nats)", ylabel="accuracy (%)")
    groups = {
        f"{title}\n{label}": values(trials, "estimate", part="negatives", bound=b, shared=shared)
        for shared, label in ((False, "independent"), (True, "one z a batch"))
        for b, title in BOUNDS.items()
    }
    bars(of_negatives, groups, ["C0", "C0", "C1", "C1"])
    of_negatives.axhline(negatives.INFORMATION, color=INK, ls="--", lw=1, label="I(X; Y) = 0.0204")
    of_negatives.set(title="negatives of one batch", ylabel="estimate (nats)")
    of_negatives.tick_params(axis="x", labelsize=8)
    for axes in (of_critics, of_levels, of_negatives):
        legend(axes, fontsize=8)
    return figure


def point(axes: Any, trials: list[Trial], settings: dict[str, Any], colour: str, marker: str, label: str) -> None:
    """Bound and accuracy at the end, with their intervals."""
    (x, dx), (y, dy) = (interval(last(trials, name, **settings)) for name in ("bound", "accuracy"))
    if math.isnan(x):
        return
    whiskers = {"xerr": dx, "yerr": 100 * dy} if not math.isnan(dx) else {}
    axes.errorbar(x, 100 * y, fmt=marker, color=colour, capsize=2, label=label, **whiskers)


SIZES = {"data_set": "mnist", "batch": 128, "rate": 3e-4, "steps": 3000, "readings": 4}
PAIRS = {"batch_size": 128, "steps": 4000, "rate": 1e-3, "readings": 1000}
STUDY = study.Study(
    "evidence3",
    run,
    full=conditions(SIZES, PAIRS),
    quick=conditions(
        {**SIZES, "data_set": "digits", "rate": 3e-3, "steps": 300, "readings": 2},
        {**PAIRS, "steps": 300, "readings": 100},
    ),
    draw=draw,
    tables=tables,
)

if __name__ == "__main__":
    study.main(STUDY)
