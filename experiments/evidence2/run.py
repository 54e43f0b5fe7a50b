"""A bijective encoder trained against a linear classifier: I(X; Y) stays, and a linear probe loses the classes (section 3.1)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import data, study, supervised
from ..flows import Flow, log_condition, reconstruction_error
from ..plots import INK, band, legend, row_of_panels
from ..probe import STEPS, Probe, probe
from ..tables import table, text, values
from ..trials import Trial
from ..two_encoders import encoded

POINTS = 8  # images at which the Jacobian is taken
CLASSIFIER_RATE = 1e-3
MORE = 6 * STEPS  # steps of the last probe, which shall not fail for want of steps


class Contest:
    """A flow of the top halves against a linear classifier of what it makes of them.

    The classifier lowers its cross entropy. The flow lowers the classifier's cross entropy to equal shares of all classes.
    """

    def __init__(self, data_set: str, couplings: int, width: int, batch: int, rate: float, seed: int):
        torch.manual_seed(seed)
        self.generator, self.batch = torch.Generator().manual_seed(seed), batch
        (train, test) = data.load(data_set)
        (self.x, _), (self.u, _) = data.halves(train.images), data.halves(test.images)
        self.labels, self.test_labels = train.labels, test.labels
        self.flow = Flow(self.x.shape[1], couplings=couplings, width=width, affine=True)
        self.classifier = nn.Linear(self.x.shape[1], int(self.labels.max()) + 1)
        self.of_flow = torch.optim.Adam(self.flow.parameters(), lr=rate, fused=True)
        self.of_classifier = torch.optim.Adam(self.classifier.parameters(), lr=CLASSIFIER_RATE, fused=True)

    def classify(self) -> None:
        """One step of the classifier."""
        x, labels = self._batch()
        with torch.no_grad():
            z = self.flow(x)
        self.of_classifier.zero_grad()
        F.cross_entropy(self.classifier(z), labels).backward()
        self.of_classifier.step()

    def hide(self) -> None:
        """One step of the flow."""
        x, _ = self._batch()
        self.of_flow.zero_grad()
        (-self.classifier(self.flow(x)).log_softmax(dim=1).mean()).backward()
        self.of_flow.step()

    def representation(self) -> tuple[Tensor, Tensor]:
        """Of the training and of the test set."""
        return encoded(self.flow, self.x), encoded(self.flow, self.u)

    def probe(self, steps: int = STEPS) -> Probe:
        """A new linear classifier, fitted to the end on all training images."""
        train, test = self.representation()
        return probe(train, self.labels, test, self.test_labels, steps)

    def adversary(self) -> float:
        """Test accuracy of the classifier that the flow was trained against."""
        with torch.no_grad():
            return supervised.accuracy(self.classifier(encoded(self.flow, self.u)).argmax(1), self.test_labels)

    def mlp(self, epochs: int, seed: int) -> float:
        """Test accuracy of a classifier with hidden layers, which reads what a linear one cannot."""
        train, test = self.representation()
        return supervised.accuracy(
            supervised.predicted(train, self.labels, test, epochs=epochs, seed=seed), self.test_labels
        )

    def _batch(self) -> tuple[Tensor, Tensor]:
        i = torch.randint(len(self.x), (self.batch,), generator=self.generator)
        return self.x[i], self.labels[i]


def run(
    data_set: str, couplings: int, width: int, rounds: int, inner: int, warm_up: int, batch: int, rate: float,
    readings: int, epochs: int, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """`warm_up` steps of the classifier, then rounds of `inner` steps of the classifier and one of the flow."""
    contest = Contest(data_set, couplings, width, batch, rate, seed)
    found: dict[str, Any] = {name: [] for name in ("round", "accuracy", "cross_entropy", "v_information", "adversary")}
    points = contest.u[:POINTS]
    before = log_condition(contest.flow, points), contest.mlp(epochs, seed)
    for _ in range(warm_up):
        contest.classify()
    at = {round(rounds * i / (readings - 1)) for i in range(readings)}
    for step in study.steps(rounds + 1, "rounds"):
        if step in at:
            read = contest.probe()
            values = (step, read.accuracy, read.cross_entropy, read.v_information, contest.adversary())
            for name, value in zip(found, values, strict=True):
                found[name].append(value)
        if step < rounds:
            for _ in range(inner):
                contest.classify()
            contest.hide()
    single, double = reconstruction_error(contest.flow, contest.u)
    return {
        **found,
        "accuracy_more_steps": contest.probe(MORE).accuracy,
        "mlp": [before[1], contest.mlp(epochs, seed)],
        "log_condition": [before[0], log_condition(contest.flow, points)],
        "error": single,
        "error_fp64": double,
    }


def tables(trials: list[Trial]) -> dict[str, str]:
    """Before and after the contest."""
    rows = []
    for label, name, form, scale in (
        ("linear probe, accuracy in %", "accuracy", ".1f", 100),
        ("cross entropy of the probe, nats", "cross_entropy", ".3f", 1),
        ("I_V, nats", "v_information", ".3f", 1),
        ("the classifier it was trained against, accuracy in %", "adversary", ".1f", 100),
        ("MLP on the representation, accuracy in %", "mlp", ".1f", 100),
        ("log(σ₁/σ₃₉₂) of the Jacobian", "log_condition", ".2f", 1),
    ):
        curves = values(trials, name)
        rows.append([label, *(text([curve[end] for curve in curves], form, scale) for end in (0, -1))])
    rows.append(
        [f"linear probe with {MORE} steps, accuracy in %", "", text(values(trials, "accuracy_more_steps"), ".1f", 100)]
    )
    for label, name in (("largest error of the inverse, fp32", "error"), ("… fp64", "error_fp64")):
        rows.append([label, "", f"{max(map(float, values(trials, name))):.1e}"])
    return {"contest": table(["", "before", "after"], rows)}


def draw(trials: list[Trial]) -> Any:
    """Accuracy and usable information over rounds."""
    figure, (accuracy, nats) = row_of_panels(2)
    at = values(trials, "round")[0]
    band(accuracy, at, values(trials, "accuracy"), "C0", "linear probe, fitted anew", scale=100)
    band(accuracy, at, values(trials, "adversary"), "C1", "the classifier it is trained against", scale=100)
    ends = [[curve[0], curve[-1]] for curve in values(trials, "mlp")]
    band(accuracy, [at[0], at[-1]], ends, "C2", "MLP, fitted anew (before and after)", scale=100)
    accuracy.axhline(10, color=INK, ls=":", lw=1)
    accuracy.annotate("chance", (at[0], 10), (2, 3), textcoords="offset points", color=INK)
    accuracy.set(
        title="a linear classifier loses the classes", xlabel="round", ylabel="test accuracy (%)", ylim=(0, 100)
    )
    band(nats, at, values(trials, "v_information"), "C0", "I_V = H(Y) − H_V(Y|Z)")
    nats.set(title="usable information falls; I(X; Y) cannot", xlabel="round", ylabel="nats")
    nats.axhline(0, color=INK, ls=":", lw=1)
    for axes in (accuracy, nats):
        legend(axes)
    return figure


SIZES = {
    "data_set": "mnist", "couplings": 10, "width": 256, "rounds": 1500, "inner": 5, "warm_up": 500, "batch": 128,
    "rate": 1e-4, "readings": 6, "epochs": 5,
}  # fmt: skip
STUDY = study.Study(
    "evidence2",
    run,
    full=[SIZES],
    quick=[{**SIZES, "couplings": 4, "width": 128, "rounds": 300, "readings": 2, "epochs": 1, "rate": 1e-3}],
    draw=draw,
    tables=tables,
)

if __name__ == "__main__":
    study.main(STUDY)
