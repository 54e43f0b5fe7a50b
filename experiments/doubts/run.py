"""Evidence 1 with other views, other images and an affine flow, read by accuracy, cross entropy and usable information."""

from __future__ import annotations

import math
from typing import Any

from .. import data, study, supervised
from ..bijective import trained
from ..plots import INK, band, legend, row_of_panels
from ..probe import entropy
from ..tables import interval, table, text, values
from ..trials import Trial
from ..two_encoders import Trainer

TITLES = {
    "halves": "MNIST halves, additive",
    "affine": "MNIST halves, affine",
    "fashion": "Fashion-MNIST halves, additive",
    "crops": "MNIST crops and shifts, additive",
    "same_class": "MNIST, two digits of a class, additive",
}
CHANGES: dict[str, dict[str, Any]] = {
    "halves": {},
    "affine": {"affine": True},
    "fashion": {"data_set": "fashion"},
    "crops": {"view": "crops"},
    "same_class": {"view": "same_class"},
}


def run(change: str, data_set: str, view: str, seed: int, *, epochs: int, **sizes: Any) -> dict[str, Any]:
    """InfoNCE raised by a flow for each view, and what is known of the information of the views beside it."""
    used = present(data_set)
    trainer, found = trained(used, view, "info_nce", seed=seed, **sizes)
    known = bracket(trainer, epochs, seed) if view == "same_class" else {}
    return {**found, "used": used, **known}


def present(data_set: str) -> str:
    """The data set, or MNIST where Fashion-MNIST cannot be had, which is said."""
    try:
        data.load(data_set)
    except data.DataError as error:
        if data_set != "fashion":
            raise
        study.console.print(f"{error}; this trial runs on MNIST")
        return "mnist"
    return data_set


def bracket(trainer: Trainer, epochs: int, seed: int) -> dict[str, Any]:
    """What I(X; Y) is between: the information of a classifier's answers for two images of a class, and the class entropy."""
    labels = trainer.test_set.labels
    train, test = trainer.train_views.plain, trainer.test_views.plain
    answers = supervised.predicted(train, trainer.train_set.labels, test, epochs=epochs, seed=seed)
    return {"information": [supervised.shared_information(answers, labels), entropy(labels)]}


def conditions(sizes: dict[str, Any], data_set: str = "mnist") -> list[dict[str, Any]]:
    """One change at a time."""
    base = {"data_set": data_set, "view": "halves", "affine": False}
    return [{"change": change, **base, **more, **sizes} for change, more in CHANGES.items()]


def tables(trials: list[Trial]) -> dict[str, str]:
    """A row a change, with each measure before and after, and whether its gain is above 0 with its interval."""
    rows, verdicts = [], []
    for change, title in TITLES.items():
        ends = {
            name: [[float(curve[end]) for curve in values(trials, name, change=change)] for end in (0, -1)]
            for name in ("bound", "accuracy", "cross_entropy", "v_information")
        }
        if set(values(trials, "used", change=change)) == {"mnist"} and change == "fashion":
            title += " (absent: MNIST)"
        cells = []
        for name, of_ends in ends.items():
            form, scale = (".1f", 100) if name == "accuracy" else (".3f", 1)
            cells.append(" → ".join(text(end, form, scale) for end in of_ends))
        rows.append([title, *cells])
        gains = {
            name: [b - a for a, b in zip(*ends[name], strict=True)] for name in ("bound", "accuracy", "v_information")
        }
        cells = [text(gains["bound"]), text(gains["accuracy"], ".1f", 100), text(gains["v_information"], ".3f")]
        verdicts.append([title, *cells, verdict(gains["accuracy"]), verdict(gains["v_information"])])
    head = ["InfoNCE, nats", "accuracy, %", "probe's cross entropy, nats", "I_V, nats"]
    gained = ["gain of InfoNCE, nats", "of accuracy, points", "of I_V, nats", "accuracy better?", "I_V better?"]
    return {"measures": table(["", *head], rows), "verdict": table(["", *gained], verdicts), "known": known(trials)}


def verdict(gains: list[float]) -> str:
    """Whether the interval of the gain is above or below 0."""
    mean, half = interval(gains)
    if math.isnan(half):
        return "too few seeds"
    return "yes" if mean - half > 0 else "no, worse" if mean + half < 0 else "cannot be told"


def known(trials: list[Trial]) -> str:
    """The estimate beside the information, where that is known."""
    found = values(trials, "information", change="same_class")
    bounds = [[float(curve[end]) for curve in values(trials, "bound", change="same_class")] for end in (0, -1)]
    low = min((float(pair[0]) for pair in found), default=math.nan)
    high = max((float(pair[1]) for pair in found), default=math.nan)
    cells = [f"{low:.3f} to {high:.3f}" if found else "–", *(text(b, ".3f") for b in bounds)]
    return table(["I(X; Y), nats, at every step", "InfoNCE before", "after"], [cells])


def draw(trials: list[Trial]) -> Any:
    """Accuracy, usable information, and the estimate beside the truth on a linear axis that starts at 0."""
    figure, (accuracy, nats, truth) = row_of_panels(3, 4.4)
    for i, (change, title) in enumerate(TITLES.items()):
        at = next(iter(values(trials, "step", change=change)), [])
        band(accuracy, at, values(trials, "accuracy", change=change), f"C{i}", title, scale=100)
        band(nats, at, values(trials, "v_information", change=change), f"C{i}", title)
    accuracy.set(title="linear probe", xlabel="step", ylabel="test accuracy (%)")
    nats.set(title="usable information I_V", xlabel="step", ylabel="nats")
    at = next(iter(values(trials, "step", change="same_class")), [])
    band(truth, at, values(trials, "bound", change="same_class"), "C4", "InfoNCE, on test pairs")
    found = values(trials, "information", change="same_class")
    if found:
        low, high = min(float(pair[0]) for pair in found), max(float(pair[1]) for pair in found)
        truth.axhspan(low, high, color=INK, alpha=0.35, lw=0, label="I(X; Y) is in this band")
    truth.set(title="two digits of a class", xlabel="step", ylabel="nats", ylim=(min(0, truth.get_ylim()[0]), None))
    legend(truth, loc="lower right")
    handles, labels = accuracy.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


SIZES = {"couplings": 10, "width": 256, "steps": 3000, "readings": 5, "batch": 128, "rate": 1e-3, "epochs": 5}
STUDY = study.Study(
    "doubts",
    run,
    full=conditions(SIZES),
    quick=conditions({**SIZES, "couplings": 4, "width": 128, "steps": 100, "readings": 2, "epochs": 1}),
    draw=draw,
    tables=tables,
)

if __name__ == "__main__":
    study.main(STUDY)
