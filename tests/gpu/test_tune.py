"""Shapes by timing: every shape that may be chosen gives right results, and choices are kept. No clock runs here."""

import json
from unittest import mock

import pytest
import torch

pytest.importorskip("triton")
pytest.importorskip("ttsem")

from triton.runtime.errors import OutOfResources

from jessl_kernels import phi
from jessl_kernels.problem.exclude import Exclude
from jessl_kernels.problem.score import Score
from jessl_kernels.problem.types import Terms, Weights
from jessl_kernels.triton import launch, shapes, tune
from jessl_kernels.triton.launch import Problem, Sides
from jessl_kernels.triton.shapes import Shape

N = tune.FEWEST
KERNELS = ("sums", "both", "attend", "pull", "pull both", "pull both scale", "pull psi")


def score(rows: int = N, kind: str = "dot", dtype: torch.dtype = torch.bfloat16) -> Score:
    with torch.device("meta"):
        x, y, scale = torch.empty(rows, 64, dtype=dtype), torch.empty(N, 64, dtype=dtype), torch.empty(())
    return Score(x, y, scale, None, None, Exclude(), kind, phi.IDENTITY)


@pytest.fixture
def tuned(tmp_path, monkeypatch):
    """Autotuning switched on, with a cache of its own, for a device that has a name and does not capture."""
    monkeypatch.setattr(tune, "ENABLED", True)
    monkeypatch.setattr(tune, "CACHE", tmp_path / "below" / "shapes.json")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    tune._known.cache_clear()
    yield tune.CACHE
    tune._known.cache_clear()


def timed(seconds: dict[Shape, float]) -> mock._patch:
    """Each launch takes the seconds of its shape in the table; a shape that is absent does not fit."""

    def bench(run, return_mode):
        shape = run()
        if shape not in seconds:
            raise OutOfResources(1, 0, "shared memory")
        return seconds[shape]

    return mock.patch.object(tune.triton.testing, "do_bench", bench)


def test_without_the_switch_it_is_the_table():
    with mock.patch.object(tune.triton.testing, "do_bench", side_effect=AssertionError):
        assert tune.chosen("pull", score(), lambda shape: shape) == shapes.of("pull", score())


def test_the_fastest_that_fits_is_chosen_once_and_kept(tuned):
    table, other, slow = shapes.of("pull", score()), Shape(128, 64, 8, 3), Shape(64, 64, 4, 2)
    assert {other, slow} <= set(shapes.around("pull", score()))
    with timed({table: 2.0, other: 1.0, slow: 3.0}):
        assert tune.chosen("pull", score(), lambda shape: shape) == other
    assert list(json.loads(tuned.read_text()).values()) == [list(other)]
    tune._known.cache_clear()  # as in a later process
    with mock.patch.object(tune.triton.testing, "do_bench", side_effect=AssertionError):
        assert tune.chosen("pull", score(), lambda shape: shape) == other
        assert tune.chosen("pull", score(rows=8), lambda shape: shape) == other


def test_what_another_process_has_found_is_kept_too(tuned):
    with timed({shapes.of("sums", score()): 1.0}):
        tune.chosen("sums", score(), lambda shape: shape)
    kept = json.loads(tuned.read_text())
    tuned.write_text(json.dumps({"of another": [64, 64, 4, 2], **kept}))
    with timed({shapes.of("pull", score()): 1.0}):
        tune.chosen("pull", score(), lambda shape: shape)
    assert {"of another", *kept} < set(json.loads(tuned.read_text()))


@pytest.mark.parametrize("why", ["few rows", "capture"])
def test_nothing_is_timed_where_that_says_nothing_or_cannot_be(tuned, monkeypatch, why):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: why == "capture")
    few = score(rows=N - 1 if why == "few rows" else N)
    with mock.patch.object(tune.triton.testing, "do_bench", side_effect=AssertionError):
        assert tune.chosen("sums", few, lambda shape: shape) == shapes.of("sums", few)
    assert not tuned.exists()


def test_a_choice_holds_for_one_kernel_dtype_and_width(tuned):
    every = [(kernel, score(dtype=dtype)) for kernel in ("sums", "pull") for dtype in (torch.bfloat16, torch.float16)]
    for kernel, one in every:
        with timed({shapes.of(kernel, one): 1.0}):
            tune.chosen(kernel, one, lambda shape: shape)
    assert len(json.loads(tuned.read_text())) == len(every)


@pytest.mark.parametrize("D", [16, 64, 128, 256, 512])
@pytest.mark.parametrize("hopper", [False, True])
def test_neighbours_of_the_table_are_tried_for_every_kernel(D, hopper, monkeypatch):
    monkeypatch.setattr(shapes, "hopper", lambda device: hopper)
    with torch.device("meta"):
        x, y, scale = torch.empty(N, D, dtype=torch.bfloat16), torch.empty(N, D, dtype=torch.bfloat16), torch.empty(())
    one = Score(x, y, scale, None, None, Exclude(), "dot", phi.IDENTITY)
    for kernel in ("sums", "both") if D > 256 else KERNELS:
        table, tried = shapes.of(kernel, one), {shape[:4] for shape in shapes.around(kernel, one)}
        rows, cols, warps, stages = table[:4]
        assert {(2 * rows, cols, warps, stages), (rows, 2 * cols, warps, stages)} <= tried
        assert {(rows, cols, 12 - warps, stages), (rows, cols, warps, stages + 1)} <= tried
        assert all(min(shape[:2]) >= 16 for shape in tried)


@pytest.mark.parametrize("backend", ["triton"])
@pytest.mark.parametrize(
    ("kernel", "kind"),
    [*((kernel, "dot") for kernel in KERNELS), ("both", "sqdist"), ("pull", "sqdist"), ("pull both scale", "sqdist")],
)
def test_tiles_of_every_size_that_may_be_chosen_give_the_same(backend, kernel, kind):
    """Several tiles both ways, with partial last ones. Warps and stages concern only the compiler: the executor has none."""
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(n, 5, generator=generator).bfloat16() for n in (150, 135))
    problem = Problem.of(Score(x, y, torch.tensor(0.3), None, None, Exclude(), kind, phi.IDENTITY))
    t = x.double() @ y.double().T if kind == "dot" else -torch.cdist(x.double(), y.double()).square()
    s = 0.3 * t
    row, col = torch.logsumexp(s, dim=1), torch.logsumexp(s, dim=0)
    p = torch.softmax(s, dim=1)
    u = torch.sigmoid(s) if kernel == "pull psi" else p + torch.softmax(s, dim=0) if "both" in kernel else p
    pulled = u @ y.double() - (u.sum(dim=1, keepdim=True) * x.double() if kind == "sqdist" else 0)
    truth = {
        "sums": (row,),
        "both": (row, col),
        "attend": (row, pulled),
        "pull both scale": (pulled, (u * t).sum(dim=1)),
        "pull psi": (pulled, torch.nn.functional.softplus(s).sum(dim=1)),
    }.get(kernel, (pulled,))

    def ours(shape: Shape) -> tuple:
        if kernel in ("sums", "both"):
            found = launch.sum_parts(problem, Terms(), kernel == "both", 1 << 20, shape)
            return tuple(launch.merge(parts).values()[0] for parts in found if parts.total is not None)
        if kernel == "attend":
            sums, found = launch.attend(problem, False, 0, 1 << 20, shape)
            lse = launch.merge(sums).values()[0]
            share = (sums.reference[0] - lse).exp()
            return lse, (found.embedding * share[:, :, None]).sum(dim=0)
        of_rows, of_cols = (Weights(lse.float()[None], torch.ones(1, len(lse))) for lse in (row, col))
        if kernel == "pull psi":
            sides, op = Sides.of(of_rows._replace(reference=None), None), Terms("softplus")
        else:
            sides, op = Sides.of(of_rows, of_cols if "both" in kernel else None), Terms()
        options = {"psi": kernel == "pull psi", "scale": kernel == "pull both scale"}
        found = launch.pull(problem, sides, op, 1 << 20, shape=shape, **options).merged()
        return tuple(one for one in (found.embedding, found.psi, found.scale) if one is not None)

    for shape in {one[:2]: one for one in shapes.around(kernel, problem.score)}.values():
        for a, one in zip(ours(shape), truth, strict=False):
            # Weights are rounded to bf16 for a product, and the sum for the scale cancels.
            bar = 2.0**-7 if one.dim() == 2 else 1e-5 if kernel == "pull both scale" else 1e-6
            assert float((a - one).abs().max()) <= bar * float(one.abs().max()), shape
