"""Sums, gradients and losses over several tiles of scores, by programs that take many tiles each, and by many programs."""

import pytest
import torch

import jessl_kernels as jk
from tests import cases, data
from tests.oracles import row_losses as oracle
from tests.unit import test_reductions as suite
from tests.yardstick import judge

BF16, FP16, FP32, FP64 = torch.bfloat16, torch.float16, torch.float32, torch.float64
BELOW_0 = jk.phi.clamp(-8.0, -0.05), ("clamp", -8.0, -0.05)
CLAMP = jk.phi.clamp(-1.0, 0.9), ("clamp", -1.0, 0.9)


@pytest.fixture(autouse=True)
def _processors(request, monkeypatch):
    """As few processors as the case asks for: then a program of the triton backend takes several tiles."""
    if request.node.callspec.params["backend"] == "triton":
        from jessl_kernels.triton import launch

        monkeypatch.setattr(
            launch, "processors", lambda device: request.node.callspec.params["case"].get("processors", 1)
        )
        monkeypatch.setattr(launch, "PROGRAMS_EACH", 1)


def ids(n: int, classes: int) -> torch.Tensor:
    return suite.ids(n, classes, seed=n)


def biases(n: int, step: float) -> torch.Tensor:
    """Of a few rows out of five the next are larger by so many nats."""
    (normal,) = cases.columns(n, seed=n, dtype=torch.float32)
    return normal + step * (torch.arange(n) % 5)


EXCLUSIONS = {
    "nothing": lambda N, M: {},
    "diagonals": lambda N, M: {"diagonals": (0, N // 2, -(N // 2))},
    "same": lambda N, M: {"same": (ids(N, 6), ids(M, 6)), "diagonals": (3,), "keep": (0, M - N - 2)},
    "different": lambda N, M: {"different": (ids(N, 6), ids(M, 6)), "diagonals": (1, 66), "keep": (-1, 70)},
    "most": lambda N, M: {"different": (ids(N, 3), 1 + ids(M, 4)), "diagonals": (0, 1), "keep": (130,)},
}
FUSED, STRIPS, BLOCKS, APART, EXPANDED = (
    {"dtype": BF16, "shape": (133, 140, 5)},
    {"dtype": FP64, "shape": (21, 140, 5)},
    {"dtype": BF16, "shape": (150, 140, 260), "workspace": 40_000},
    {"dtype": FP64, "shape": (21, 75, 3), "kind": "sqdist"},
    {"dtype": FP64, "shape": (21, 140, 18), "kind": "sqdist"},
)
REDUCTIONS = {
    "fused": FUSED | {"exclude": "same"},
    "fused, clamped": FUSED | {"exclude": "different", "phi": CLAMP, "processors": 9},
    "fused, rows far apart": FUSED | {"steps": (30.0, 0.0)},
    "fused, columns far apart": FUSED | {"steps": (0.0, 30.0), "exclude": "most"},
    "fused, far apart": FUSED | {"steps": (12.0, 12.0), "processors": 9},
    "fused, rows far below": FUSED | {"steps": (-400.0, 0.0)},
    "fused, columns far below": FUSED | {"steps": (0.0, -400.0)},
    "fused, softplus": FUSED | {"psi": "softplus", "exclude": "same", "processors": 9},
    "fused, log1m_exp": FUSED | {"psi": "log1m_exp", "phi": BELOW_0, "steps": None, "exclude": "same"},
    "fused, symmetric": {"dtype": BF16, "shape": (200, 200, 5), "steps": None, "exclude": "diagonals", "processors": 9},
    "strips": STRIPS | {"exclude": "most"},
    "strips, clamped": STRIPS | {"exclude": "same", "phi": CLAMP, "workspace": 40_000},
    "strips of a few rows": STRIPS | {"exclude": "diagonals", "processors": 9, "workspace": 15_000},
    "strips, far apart": STRIPS | {"steps": (30.0, 30.0)},
    "strips, rows far below": STRIPS | {"steps": (-400.0, 0.0)},
    "strips, columns far below": STRIPS | {"steps": (0.0, -400.0), "exclude": "most"},
    "strips, softplus": STRIPS | {"psi": "softplus", "exclude": "different", "phi": CLAMP, "workspace": 40_000},
    "strips, log1m_exp": STRIPS | {"psi": "log1m_exp", "phi": BELOW_0, "steps": None, "exclude": "same"},
    "blocks": BLOCKS | {"exclude": "different", "phi": CLAMP},
    "blocks, softplus": BLOCKS | {"psi": "softplus", "exclude": "most", "workspace": None},
    "blocks, fp16": BLOCKS | {"dtype": FP16, "exclude": "same", "shape": (140, 150, 260), "workspace": 140_000},
    "apart": APART | {"exclude": "same", "phi": ("laplace", "laplace")},
    "apart, softplus": APART | {"psi": "softplus", "exclude": "most", "processors": 9},
    "expanded": EXPANDED | {"exclude": "same", "phi": ("laplace", "laplace")},
    "expanded, in strips": EXPANDED | {"dtype": FP32, "processors": 9, "workspace": 15_000},
}


@pytest.mark.kernels
@cases.backends
@pytest.mark.parametrize("case", REDUCTIONS.values(), ids=REDUCTIONS)
def test_reductions_of_several_tiles(backend, case):
    N, M, D = case["shape"]
    dtype, steps, psi, kind = case["dtype"], case.get("steps", (0.0, 0.0)), case.get("psi"), case.get("kind", "dot")
    phi, oracle_phi = case.get("phi", (None, None))
    symmetric = N == M
    exclude = EXCLUSIONS[case.get("exclude", "nothing")](N, M)
    x, y = data.given(data.normals(N, D, seed=0), dtype), data.given(data.normals(M, D, seed=1), dtype)
    if kind == "sqdist":
        y[torch.arange(12) * 29 % M] = x[torch.arange(12) * 11 % N]  # pairs that are close
    wide = FP64 if dtype == FP64 else FP32
    inputs = {"x": x, "scale": torch.tensor(0.3 if D < 100 else 0.03, dtype=torch.float32).to(wide)}
    inputs |= {} if symmetric else {"y": y}
    if steps is not None:
        inputs |= {"row_bias": biases(N, steps[0]).to(wide), "col_bias": biases(M, steps[1]).to(wide)}

    def ours(**inputs):
        options = {"kind": kind, "phi": phi, "exclude": jk.Exclude(**exclude), "dim": "both"}
        if psi is None:
            return jk.pairwise_logsumexp(**inputs, **options)
        return jk.pairwise_sum(**inputs, psi=psi, **options)

    def truth(**inputs):
        out = suite.oracle.excluded(N, M, **exclude)
        word = "logsumexp" if psi is None else psi
        return [
            oracle.row_loss(**inputs, join="none", negatives=word, kind=kind, phi=oracle_phi, out=out, columns=columns)
            for columns in (False, True)
        ]

    floors = suite.FLUSHED | suite.HALVES | {"col_bias": 1.0}
    with jk.use_backend(backend, workspace=case.get("workspace")):
        judge("several tiles", ours, truth, inputs, seed=0, floors=floors)


def labels_of(n: int, classes: int) -> torch.Tensor:
    """Of which some are those of one row alone, and some say that there is none."""
    row, label = torch.arange(n), ids(n, classes)
    return torch.where(row % 40 == 7, classes + row, label)


ROWS = {"shape": (133, 140, 24), "join": "softplus", "positives": "shift", "processors": 1}
VIEWS = ROWS | {"shape": (180, 180, 24), "shift": 90, "exclude": (0,)}
LABELS = {"shape": (150, 150, 24), "positives": "labels", "exclude": (0,), "reduction": "mean_counted"}
LOSSES = {
    "partners": ROWS | {"reduction": "mean"},
    "partners in two ranges": ROWS | {"processors": 9, "shift": 3, "dtype": FP16},
    "partners of few rows among many": ROWS | {"shape": (20, 2200, 5), "processors": 40},
    "partners of both sides": ROWS | {"shape": (133, 133, 24), "dim": "both", "shift": 5, "biased": True, "weighted": True},
    "an index": ROWS | {"positives": "index", "biased": True, "reduction": "mean_counted"},
    "sums of softplus": ROWS | {"join": "sum", "negatives": "softplus", "of_positives": "softplus", "biased": True},
    "two views": VIEWS,
    "two views of two tilts": VIEWS | {"join": "tilt_difference", "tilts": (2.0, 0.5)},
    "two tilts of both sides": ROWS
    | {"shape": (133, 133, 24), "join": "tilt_difference", "tilts": (2.0, 0.5), "dim": "both", "biased": True},
    "labels, mean outside": LABELS | {"join": "softplus_spread"},
    "labels, mean inside": LABELS | {"join": "softplus_count", "reduction": "sum", "processors": 9},
    "labels of two batches": LABELS | {"join": "softplus_spread", "shape": (133, 140, 24), "biased": True, "dim": "both",
                                       "reduction": "sum", "weighted": True},
    "labels in blocks": LABELS | {"join": "softplus_spread", "shape": (150, 150, 260)},
    "labels in fp64": LABELS | {"join": "softplus_spread", "dtype": FP64, "reduction": "mean_counted"},
}  # fmt: skip


@pytest.mark.kernels
@cases.backends
@pytest.mark.parametrize("case", LOSSES.values(), ids=LOSSES)
def test_losses_of_several_tiles(backend, case):
    N, M, D = case["shape"]
    dtype, both, reduction = case.get("dtype", BF16), case.get("dim") == "both", case.get("reduction", "sum")
    wide = FP64 if dtype == FP64 else FP32
    symmetric = "exclude" in case and N == M
    inputs = {"x": data.given(data.normals(N, D, seed=0), dtype), "scale": torch.tensor(5.0).to(wide)}
    inputs |= {} if symmetric else {"y": data.given(data.normals(M, D, seed=1), dtype)}
    if case.get("biased"):
        inputs |= {"row_bias": biases(N, 1.0).to(wide), "col_bias": biases(M, 1.0).to(wide)}
    ours = {name: case[name] for name in ("join", "negatives", "of_positives", "tilts") if name in case}
    truth = dict(ours)
    index, both_ids = ids(N, M), (labels_of(N, 9), labels_of(M, 9))
    named = {"shift": case.get("shift", 0), "index": index, "labels": both_ids}[case["positives"]]
    ours["positives"] = named
    kind = "ids" if case["positives"] == "labels" else case["positives"]
    truth |= {
        "positive": oracle.positives_of(N, M, **{kind: named}),
        "out": oracle.excluded_by(N, M, case.get("exclude", ())),
    }
    weights = [
        torch.where(torch.arange(n) % 11 == 2, 0.0, v.abs()) for n, v in ((N, biases(N, 0.0)), (M, biases(M, 0.0)))
    ]
    if case.get("weighted"):
        ours |= {"weights": weights[0].to(wide)} | ({"col_weights": weights[1].to(wide)} if both else {})

    def total(**inputs):
        sides = [
            oracle.row_loss(**inputs, **truth, normalize=True, columns=c) for c in ((False, True) if both else (False,))
        ]
        counted = (truth["positive"] & ~truth["out"]).any(dim=1).sum()
        count = {"sum": 1, "mean": N, "mean_counted": counted}[reduction]
        each = weights if case.get("weighted") else (1.0, 1.0)
        return sum((w * side).sum() / count for w, side in zip(each, sides, strict=False))

    options = {
        "exclude": jk.Exclude(case.get("exclude", ())),
        "normalize": True,
        "reduction": reduction,
        "dim": case.get("dim", "row"),
    }
    floors = suite.FLUSHED | {"x": 0.05, "y": 0.05, "row_bias": 1.0, "col_bias": 1.0}
    with jk.use_backend(backend):
        judge("several tiles", lambda **k: jk.row_loss(**k, **ours, **options), total, inputs, seed=0, floors=floors)


@pytest.mark.kernels
@cases.backends
@pytest.mark.parametrize("case", [{"workspace": 40_000}], ids=["in strips"])
def test_top_k_over_several_tiles(backend, case):
    N, M, D = 21, 140, 5
    exclude = EXCLUSIONS["same"](N, M)
    x, y, row, col = (
        data.normals(N, D, seed=0),
        data.normals(M, D, seed=1),
        biases(N, 0.0).double(),
        biases(M, 0.0).double(),
    )
    s = suite.oracle.score(x, y, phi=CLAMP[1], scale=0.3, row_bias=row, col_bias=col)
    expected, there = suite.oracle.topk(s, suite.oracle.excluded(N, M, **exclude), k=4)
    with jk.use_backend(backend, **case):
        found, places = jk.pairwise_topk(
            x, y, k=4, phi=CLAMP[0], scale=0.3, row_bias=row, col_bias=col, exclude=jk.Exclude(**exclude)
        )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(places, there)
