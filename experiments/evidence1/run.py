"""Bijective encoders of half digits: InfoNCE and NWJ rise, and a linear probe reads more, though I(X; Y) stays (section 3.1)."""

from __future__ import annotations

import math
from typing import Any

from .. import data, study, supervised
from ..bijective import trained
from ..plots import INK, band, legend, level, row_of_panels
from ..tables import table, text, values
from ..trials import Trial

TITLES = {"info_nce": "InfoNCE", "nwj": "NWJ"}


def run(encoder: str, data_set: str, seed: int, *, bound: str = "", epochs: int = 0, **sizes: Any) -> dict[str, Any]:
    """A flow for each half, raised by a bound, or an MLP with labels on the top half, trained for some epochs."""
    if encoder == "supervised":
        train, test = data.load(data_set)
        (x, _), (u, _) = data.halves(train.images), data.halves(test.images)
        found = supervised.predicted(x, train.labels, u, epochs=epochs, seed=seed)
        return {"accuracy": supervised.accuracy(found, test.labels)}
    return trained(data_set, "halves", bound, affine=False, seed=seed, **sizes)[1]


def conditions(data_set: str, epochs: int, **sizes: Any) -> list[dict[str, Any]]:
    """Both bounds, and the classifier that is trained with labels."""
    flows = [{"encoder": "flow", "bound": bound, "data_set": data_set, **sizes} for bound in TITLES]
    return [*flows, {"encoder": "supervised", "data_set": data_set, "epochs": epochs}]


def tables(trials: list[Trial]) -> dict[str, str]:
    """Accuracy beside the paper's, and what the training did to the encoder."""
    flows = {title: values_at_ends(trials, bound) for bound, title in TITLES.items()}
    rows = [["pixels: the encoder before training", "85 %", percent(flows["InfoNCE"]["accuracy"][0])]]
    rows += [[f"flow, {title}", "89 %", percent(of["accuracy"][1])] for title, of in flows.items()]
    rows += [["MLP, with labels", "94 %", percent(values(trials, "accuracy", encoder="supervised"))]]
    accuracy = table(["linear probe of the top half", "paper", "here"], rows)
    names = {
        "bound, nats": "bound",
        "accuracy": "accuracy",
        "cross entropy of the probe, nats": "cross_entropy",
        "I_V, nats": "v_information",
        "log(σ₁/σ₃₉₂) of the Jacobian": "log_condition",
    }
    lines = []
    for label, name in names.items():
        cells = [text(of[name][end], ".3f") for of in flows.values() for end in (0, 1)]
        lines.append([label, *cells])
    for label, name in {"largest error of the inverse, fp32": "error", "… fp64": "error_fp64"}.items():
        errors = [values(trials, name, bound=bound) for bound in TITLES]
        lines.append(
            [label, *(cell for found in errors for cell in ("", f"{max(map(float, found)):.1e}" if found else "–"))]
        )
    header = ["", *(f"{title}, {when}" for title in TITLES.values() for when in ("before", "after"))]
    return {"accuracy": accuracy, "training": table(header, lines)}


def values_at_ends(trials: list[Trial], bound: str) -> dict[str, tuple[list[float], list[float]]]:
    """Of each curve its first and its last reading, over seeds."""
    names = ("bound", "accuracy", "cross_entropy", "v_information", "log_condition")
    curves = {name: values(trials, name, bound=bound) for name in names}
    return {name: ([c[0] for c in found], [c[-1] for c in found]) for name, found in curves.items()}


def percent(numbers: list[float]) -> str:
    """A cell."""
    return text(numbers, ".1f", 100) + " %"


def draw(trials: list[Trial]) -> Any:
    """Bounds and accuracy over steps."""
    figure, (of_bound, of_accuracy) = row_of_panels(2)
    for i, (bound, title) in enumerate(TITLES.items()):
        at = next(iter(values(trials, "step", bound=bound)), [])
        band(of_bound, at, values(trials, "bound", bound=bound), f"C{i}", title)
        band(of_accuracy, at, values(trials, "accuracy", bound=bound), f"C{i}", f"flow, {title}", scale=100)
    batch = next((t["settings"]["batch"] for t in trials if "batch" in t["settings"]), None)
    if batch:
        of_bound.axhline(math.log(batch), color=INK, ls="--", lw=1)
        of_bound.annotate(
            f"log {batch}, the cap of InfoNCE", (0, math.log(batch)), (2, 4), textcoords="offset points", color=INK
        )
    for value, label in ((85, "paper: pixels"), (89, "paper: flow"), (94, "paper: with labels")):
        of_accuracy.axhline(value, color=INK, ls=":", lw=1)
        of_accuracy.annotate(
            label, (1, value), (-2, 3), ("axes fraction", "data"), "offset points", ha="right", color=INK
        )
    with_labels = values(trials, "accuracy", encoder="supervised")
    level(of_accuracy, with_labels, "C2", "MLP with labels", scale=100)
    of_bound.set(title="the bound rises; the information cannot", xlabel="step", ylabel="nats, on test pairs")
    of_accuracy.set(title="a linear probe reads more", xlabel="step", ylabel="test accuracy (%)")
    for axes in (of_bound, of_accuracy):
        legend(axes, loc="lower right")
    return figure


SIZES = {"couplings": 10, "width": 256, "steps": 3000, "readings": 7, "batch": 128, "rate": 1e-3}
STUDY = study.Study(
    "evidence1",
    run,
    full=conditions("mnist", epochs=8, **SIZES),
    quick=conditions("mnist", epochs=1, **{**SIZES, "couplings": 4, "width": 128, "steps": 200, "readings": 2}),
    draw=draw,
    tables=tables,
)

if __name__ == "__main__":
    study.main(STUDY)
