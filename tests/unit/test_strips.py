"""Strips of the triton backend: flags of tiles with close pairs, and sums that are carried from strip to strip."""

import pytest
import torch

pytest.importorskip("triton")

import jessl_kernels as jk
from jessl_kernels import phi
from jessl_kernels.backends.strips import settled
from jessl_kernels.problem.exclude import Exclude
from jessl_kernels.problem.score import Score
from jessl_kernels.problem.types import Needs, Terms
from jessl_kernels.triton import launch
from jessl_kernels.triton.strip_kernels import TritonKernels
from tests import data
from tests.unit import test_reductions as suite

on_triton = pytest.mark.parametrize("backend", ["triton"])
PLENTY = 64 << 20
EVERYTHING = Needs(True, slice(0, 1 << 20), True, True, True)


# Pairs (row, column) of close points; tiles are 16 × 128.
PLACES = {
    "in no tile": [],
    "in one": [(40, 300)],
    "in several of a row": [(33, 0), (40, 127), (45, 128), (47, 500)],
    "in several of a column": [(0, 200), (31, 201), (32, 202), (69, 203)],
    "at the ragged ends": [(69, 529), (64, 512), (69, 3), (2, 529)],
    "in all": [(16 * k + 5, 128 * c + k) for k in range(5) for c in range(5)],
}


def points(places: list[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """(70, 40) and (530, 40): all points but these pairs are further from each other than half the radius."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, 40, generator=generator) for n in (70, 530))
    for i, j in places:
        y[j] = x[i] + 2.0**-6
    return x, y


@on_triton
@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("workspace", [PLENTY, 50 * 544 * 4 * 2], ids=["one strip", "more"])
def test_tiles_with_close_pairs_are_flagged_and_no_others(backend, places, workspace):
    x, y = points(places)
    score = Score(x, y, torch.ones((), dtype=torch.float64), None, None, Exclude(), "sqdist", phi.IDENTITY)
    made = TritonKernels(score, Terms(), workspace, False, EVERYTHING)
    shape, found = made.shape, set()
    for strip in settled(made):
        tiles = made._tiles(strip)
        flags = made.flags[: tiles * 5].view(tiles, 5)
        found |= {(strip.rows.start + shape.rows * int(k), int(c)) for k, c in flags.nonzero().cpu()}
    starts = [first + shape.rows * k for first in range(0, 70, made.rows) for k in range(-(-made.rows // shape.rows))]
    assert found == {(max(s for s in starts if s <= i), j // shape.cols) for i, j in places}


@pytest.mark.parametrize("backend", ["triton", "cuda"])
@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("workspace", [PLENTY, 50 * 544 * 4 * 2], ids=["one strip", "more"])
@pytest.mark.parametrize("scale", [0.1, 30.0])
def test_gradients_through_close_pairs_wherever_they_lie(backend, places, workspace, scale):
    x, y = points(places)
    for dim in ("row", "both"):
        options = {"dim": dim, "reduction": "sum", "exclude": {"diagonals": (3,)}}
        ours, truth = suite.lse_of("sqdist", None, **options), suite.lse_oracle("sqdist", None, **options)
        with jk.use_backend(backend, workspace=workspace):
            suite.judge("close pairs", ours, truth, {"x": x, "y": y, "scale": torch.tensor(scale)}, seed=0)


@pytest.mark.kernels
@on_triton
def test_pairs_further_than_one_look_at_the_flags_reaches(backend):
    x, y = torch.zeros(3, 17), torch.zeros(66_000, 17)
    x[:, 0], y[:, 0] = 8.0, -8.0
    near = torch.tensor([1, 40_000, 65_535, 65_536, 65_999])
    y[near] = x[0] + 0.125
    score = Score(x, y, torch.ones((), dtype=torch.float64), None, None, Exclude(), "sqdist", phi.IDENTITY)
    made = TritonKernels(score, Terms(), PLENTY, False, EVERYTHING)
    for _ in settled(made):
        assert made.flags.nonzero().flatten().tolist() == sorted({int(j) // made.shape.cols for j in near.cpu()})
    with jk.use_backend(backend):
        x.requires_grad_(True)
        jk.pairwise_logsumexp(x, y, kind="sqdist").sum().backward()
    # A row's weights are those of the near points alone, which all lie 2⁻³ further along each axis.
    assert (x.grad - 2 * 0.125).abs().max() < 1e-6


@pytest.mark.kernels
@on_triton
@pytest.mark.parametrize("op", ["lse", "sum"])
@pytest.mark.parametrize("workspace", [PLENTY, 100_000], ids=["one strip", "many"])
def test_sums_of_more_parts_than_are_merged_at_a_time(backend, op, workspace, monkeypatch):
    monkeypatch.setattr(launch, "processors", lambda device: 40)
    ours, truth = (suite.lse_of, suite.lse_oracle) if op == "lse" else (suite.sum_of, suite.sum_oracle)
    options = {"dim": "both", "reduction": "none", "exclude": {"diagonals": (0, 700)}}
    inputs = suite.given((70, 3000, 5), torch.float32, dim="both")
    with jk.use_backend(backend, workspace=workspace):
        suite.judge(
            "many parts",
            ours("dot", None, **options),
            truth("dot", None, **options),
            inputs,
            seed=0,
            floors=suite.FLUSHED,
        )


@pytest.mark.parametrize(("kind", "phi"), [("sqdist", None), ("dot", "clamp"), ("dot", None)])
def test_weights_come_from_the_scores_that_were_summed_whoever_asks_for_which_gradient(kind, phi):
    """A sweep that keeps t for the gradient of the scale must round scores like the sweep for the sums."""
    x, y = (t.float() for t in data.pairs("random", 9, 33, seed=0))
    found = []
    for learnt in (False, True):
        inputs = [t.clone().requires_grad_() for t in (x, y)]
        scale = torch.tensor(1.9, requires_grad=learnt)
        clamp = jk.phi.clamp(-90.0, 90.0) if phi else None
        with jk.use_backend("chunked"):
            jk.pairwise_logsumexp(*inputs, kind=kind, phi=clamp, scale=scale, dim="both")[0].square().sum().backward()
        found.append([t.grad for t in inputs])
    for without, with_scale in zip(*found, strict=True):
        assert torch.equal(without, with_scale)
