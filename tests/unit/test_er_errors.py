"""Bad input to the room of entropy and reconstruction: every argument, and what a formula forbids, by name."""

import inspect

import pytest
import torch

import jessl_kernels as jk
from jessl_kernels import er

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
C = torch.nn.functional.normalize(torch.randn(5, 4, generator=torch.Generator().manual_seed(1)), dim=1)
PAIR = {"z1": X, "z2": X}
SLOW = {"students": [X, X], "teachers": [X, X], "prototypes": C, "teacher_prototypes": C}
# name: the arguments of a call that works
CALLS = {
    "bound": {**PAIR, "concentration": 5.0},
    "loss": {**PAIR, "concentration": 5.0},
    "reconstruction": {**PAIR, "concentration": 5.0},
    "assignment_entropy": {"z": X, "prototypes": C},
    "discrete_bound": {**PAIR, "prototypes": C},
    "discrete_loss": {**PAIR, "prototypes": C},
    "sinkhorn": {"z": X, "prototypes": C},
    "swav": {"views": [X, X], "prototypes": C},
    "swav_er": {"views": [X, X], "prototypes": C},
    "byol": {"predictions": [X, X], "targets": [X, X]},
    "byol_er": {"predictions": [X, X], "targets": [X, X]},
    "dino": SLOW,
    "dino_er": SLOW,
    "cosine_schedule": {"step": 1, "steps": 2},
    "ER": {"concentration": 5.0},
    "Prototypes": {"count": 5, "dim": 4},
    "SwAV": {"count": 5, "dim": 4},
    "BYOL": {},
    "DINO": {"count": 5},
    "Center": {"count": 5},
    "EMATeacher": {"student": torch.nn.Linear(2, 2)},
}
GAUSSIAN = {"kernel": "gaussian", "concentration": None, "bandwidth": 1.0}


def call(name: str, **changed):
    return getattr(er, name)(**{**CALLS[name], **changed})


def test_every_public_name_is_tried():
    assert set(CALLS) == set(er.__all__) - {"ERBound"}


EVERY_ARGUMENT = [(name, argument) for name in CALLS for argument in inspect.signature(getattr(er, name)).parameters]


@pytest.mark.parametrize(("name", "argument"), EVERY_ARGUMENT)
def test_an_argument_of_no_sensible_type(name, argument):
    call(name)
    changed = GAUSSIAN if "bandwidth" in argument else {}
    with pytest.raises((TypeError, ValueError), match=rf"^{name}: {argument} is .*, must "):
        call(name, **{**changed, argument: object()})


POSITIVE = [
    *((name, "concentration") for name in ("bound", "loss", "reconstruction", "byol_er", "ER", "BYOL")),
    *((name, "q_concentration") for name in ("bound", "loss")),
    *((name, "bandwidth") for name in ("bound", "loss", "reconstruction", "ER")),
    *((name, "q_bandwidth") for name in ("bound", "loss")),
    *((name, "temperature") for name in CALLS if "temperature" in inspect.signature(getattr(er, name)).parameters),
    *((name, "epsilon") for name in ("sinkhorn", "swav", "swav_er", "SwAV")),
    *((name, "teacher_temperature") for name in ("dino", "dino_er", "DINO")),
    *((name, "target_temperature") for name in ("discrete_bound", "discrete_loss")),
]


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize(("name", "argument"), POSITIVE)
def test_widths_and_temperatures_are_positive_and_finite(name, argument, value):
    changed = GAUSSIAN if "bandwidth" in argument else {}
    with pytest.raises(ValueError, match=rf"^{name}: {argument} is .*, must be "):
        call(name, **{**changed, argument: value})


def test_the_module_of_dino_knows_which_prototypes_are_wrong():
    objective = er.DINO(5)
    for name, keys in (("prototypes", (C[:3], C)), ("teacher_prototypes", (C, C[:3]))):
        with pytest.raises(ValueError, match=rf"^DINO: {name} is of shape \(3, 4\), must have 5 rows, the count"):
            objective([X, X], [X, X], *keys)


@pytest.mark.parametrize("value", [torch.zeros(4), torch.ones(3), torch.ones(4, device="meta")])
@pytest.mark.parametrize("argument", ["bandwidth", "q_bandwidth"])
def test_bandwidths_of_each_dimension(argument, value):
    with pytest.raises(ValueError, match=rf"^bound: {argument} is .*, must be "):
        call("bound", **{**GAUSSIAN, argument: value})


@pytest.mark.parametrize(
    "name", ["assignment_entropy", "discrete_bound", "discrete_loss", "sinkhorn", "swav", "swav_er", "dino", "dino_er"]
)
def test_one_prototype(name):
    changed = {k: C[:1] for k in CALLS[name] if "prototypes" in k}
    with pytest.raises(ValueError, match=rf"^{name}: prototypes is of shape \(1, 4\), must have at least 2 rows"):
        call(name, **changed)


WRONG = {
    "prototypes that are not unit rows": (
        "swav",
        {"prototypes": 2 * C},
        r"prototypes is not of unit rows \(row \d .*2",
    ),
    "one row that is not": (
        "swav_er",
        {"prototypes": torch.cat([C, 1.1 * C[:1]])},
        r"prototypes is not of unit rows \(row 5 has norm 1\.1\), must be: divide each by its norm before a step",
    ),
    "views said to be unit rows": (
        "assignment_entropy",
        {"normalize": False},
        r"z is not of unit rows \(row \d has norm .*\), must be: divide each by its norm, or pass normalize=True",
    ),
    "one view": ("swav", {"views": [X]}, "views is a list of 1, must be one of 2 views at least"),
    "no target": ("byol", {"targets": []}, "targets is a list of 0, must be one of 1 views at least"),
    "more targets": ("byol", {"targets": [X] * 3}, "targets is a list of 3, must be one of 2 at most"),
    "views of other shapes": (
        "swav",
        {"views": [X, X[:5]]},
        r"views\[1\] is of shape \(5, 4\), must be \(6, 4\) like views\[0\]",
    ),
    "a local view": ("swav", {"local": [X[:5]]}, r"local\[0\] is of shape \(5, 4\), must be \(6, 4\) like views\[0\]"),
    "queues": ("swav", {"queue": [X]}, "queue is a list of 1, must be one of 2, as many as views"),
    "a queue of other columns": ("swav", {"queue": [X, X[:, :3]]}, r"queue\[1\] is of shape \(6, 3\), must have 4 col"),
    "a queue said to be of unit rows": (
        "swav",
        {"views": [C, C], "queue": [C, 2 * C], "normalize": False},
        r"queue\[1\] is not of unit rows \(row \d has norm 2\), must be",
    ),
    "iterations without Sinkhorn": (
        "SwAV",
        {"er": True, "iterations": 2},
        "iterations is 2, must be None with er=True",
    ),
    "one row with an entropy": (
        "byol_er",
        {"predictions": [X[:1]] * 2, "targets": [X[:1]] * 2},
        r"predictions\[0\] is of shape \(1, 4\), must have at least 2 rows, and 2 columns",
    ),
    "projections on a line": (
        "byol_er",
        {"projections": [X[:, :1]]},
        r"projections\[0\] is of shape \(6, 1\), must have at least 2 rows, and 2 columns",
    ),
    "a wider teacher": (
        "dino",
        {"teachers": [X.double()] * 2, "teacher_prototypes": C.double()},
        r"teachers\[0\] is of torch.float64, must be of torch.float32 like students\[0\]",
    ),
    "a teacher elsewhere": (
        "dino",
        {"teachers": [X.to("meta")] * 2, "teacher_prototypes": C.to("meta")},
        r"teachers\[0\] is on meta, must be on cpu like students\[0\]",
    ),
    "no iteration": ("swav", {"iterations": 0}, "iterations is 0, must be >= 1"),
    "a teacher of fewer rows": (
        "dino",
        {"teachers": [X[:5], X[:5]]},
        r"teachers\[0\] is of shape \(5, 4\), must have 6 rows like students\[0\]",
    ),
    "a teacher of other columns": (
        "dino",
        {"teachers": [X[:, :3], X[:, :3]]},
        r"teacher_prototypes is of shape \(5, 4\), must have 3 columns like teachers\[0\]",
    ),
    "targets of other columns": (
        "byol_er",
        {"targets": [X[:, :3]] * 2},
        r"targets\[0\] is of shape \(6, 3\), must have 4 columns like predictions\[0\]",
    ),
    "other prototypes": (
        "dino_er",
        {"teacher_prototypes": C[:3]},
        r"teacher_prototypes is of shape \(3, 4\), must have 5 rows, one for each prototype",
    ),
    "a centre": ("dino", {"center": torch.zeros(4)}, r"center is of shape \(4,\), must be \(5,\)"),
    "one row": ("bound", {"z1": X[:1], "z2": X[:1]}, r"z2 is of shape \(1, 4\), must have at least 2 rows"),
    "one dimension": ("loss", {"z1": X[:, :1], "z2": X[:, :1]}, "kernel is 'vmf', must be another for D = 1"),
    "another kernel's width": ("bound", {"bandwidth": 1.0}, "bandwidth is given, must be None with kernel='vmf'"),
    "another q's width": ("bound", {"q_bandwidth": 1.0}, "q_bandwidth is given, must be None with kernel='vmf'"),
    "no width": ("bound", {"concentration": None}, "concentration is None, must be given with kernel='vmf'"),
    "a word": ("bound", {**GAUSSIAN, "bandwidth": "scot"}, "bandwidth is 'scot', must be one of 'scott'"),
    "a queue of an er form": ("SwAV", {"er": True, "queue": 4}, "queue is 4, must be 0 with er=True"),
    "no width of a module": ("ER", {"concentration": None}, "concentration is None, must be given with"),
    "momentum": ("EMATeacher", {"momentum": 1.5}, "momentum is 1.5, must be between 0 and 1"),
    "steps": ("EMATeacher", {"steps": 0}, "steps is 0, must be >= 1"),
    "step": ("cosine_schedule", {"step": -1}, "step is -1, must be >= 0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_formula_forbids(case):
    name, changed, message = WRONG[case]
    with pytest.raises(ValueError, match=f"^{name}: {message}"):
        call(name, **changed)


def test_modules_refuse_calls_that_do_not_fit_what_they_hold():
    with pytest.raises(ValueError, match="BYOL: projections is given, must be None without a concentration"):
        jk.er.BYOL()([X, X], [X, X], [X, X])
    with pytest.raises(ValueError, match=r"SwAV: views is a list of 3, must be one of 2, as many as queues"):
        jk.er.SwAV(5, 4, queue=3)([X, X, X])
    with pytest.raises(ValueError, match=r"Center.update: prototypes is of shape \(3, 4\), must have 5 rows"):
        jk.er.Center(5).update([X], C[:3])
