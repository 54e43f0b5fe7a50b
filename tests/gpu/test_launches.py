"""Grids that a GPU accepts, at every size: reductions over meta tensors, whose launches are noted instead of run."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple
from unittest import mock

import pytest
import torch

pytest.importorskip("triton")

from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from triton.runtime.jit import JITFunction

from benchmarks.static_gpu.problems import ALL, EMBEDDINGS
from jessl_kernels import phi
from jessl_kernels.backends import triton as backend
from jessl_kernels.problem.exclude import Exclude
from jessl_kernels.problem.row_loss import Pairing
from jessl_kernels.problem.score import Score
from jessl_kernels.problem.types import Needs, Upstream, Weighted
from jessl_kernels.triton import dispatch, launch

MOST = (2**31 - 1, 65_535, 65_535)  # programs along each axis, of CUDA
WORKSPACE = 1 << 30  # strips of many rows, and large blocks
SIZES = [(1, 1), (300, 300), (70_000, 70_000), (3, 5_000_000), (5_000_000, 3)]
ROUTES = {
    "fused": ("dot", torch.bfloat16, 64),
    "differences": ("sqdist", torch.float32, 3),
    "strips": ("dot", torch.float32, 64),
    "blocks": ("dot", torch.float16, 300),
    "strips of distances": ("sqdist", torch.float64, 20),
}


class Launched(NamedTuple):
    """A launch as it was asked for; constants are all that a kernel is compiled with."""

    kernel: str
    grid: tuple[int, ...]
    constants: tuple[tuple[str, object], ...]


@contextlib.contextmanager
def noted(processors: int) -> Iterator[list[Launched]]:
    found: list[Launched] = []

    def note(kernel, *args, grid, warmup, **options):
        found.append(Launched(kernel.__name__, tuple(grid), tuple(sorted(options.items(), key=str))))

    with (
        mock.patch.object(JITFunction, "run", note),
        mock.patch.object(launch, "processors", lambda device: processors),
    ):
        yield found


@pytest.mark.parametrize(("cuda", "hip"), [("13.0", None), (None, "7.0")], ids=["NVIDIA", "AMD"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_library_multiplies_half_precision_into_fp32(cuda, hip, dtype):
    with FakeTensorMode(), mock.patch.multiple(torch.version, cuda=cuda, hip=hip), mock.patch("torch.mm") as mm:
        a = torch.empty(5, 7, dtype=dtype, device="cuda")
        launch.product(a, a.T, torch.float32)
    (taken, _), options = mm.call_args
    assert taken is a and options == {"out_dtype": torch.float32}


def reduced(route: str, N: int, M: int, processors: int, symmetric: bool = False) -> list[Launched]:
    """The launches of every reduction, each with every gradient."""
    kind, dtype, D = ROUTES[route]
    with torch.device("meta"):
        x, y = torch.empty(N, D, dtype=dtype), None if symmetric else torch.empty(M, D, dtype=dtype)
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        row, col = torch.empty(N, dtype=wide), torch.empty(M, dtype=wide)
        ids = torch.empty(N, dtype=torch.int64), torch.empty(M, dtype=torch.int64)
        scale = torch.empty((), dtype=torch.float64)
    exclude = Exclude(diagonals=(0, 1, -1)) if symmetric else Exclude((0,), ids, ids, (1,))
    bias = (None, None) if symmetric else (row, col)
    score = Score(x, y, scale, *bias, exclude, kind, phi.IDENTITY)
    needs = EMBEDDINGS if symmetric else ALL
    with noted(processors) as found:
        for op in ("logsumexp", "softplus"):
            lse = (row, col) if op == "logsumexp" else (None, None)
            for both in (False, True):
                upstream = Upstream(row, lse[0]), Upstream(col, lse[1]) if both else None
                dispatch.gradient(score, op, *upstream, needs, WORKSPACE)
                weighted = Weighted(row, None), Weighted(col, None) if both else None
                dispatch.reduce_and_gradient(score, op, *weighted, needs, WORKSPACE)
        dispatch.top_k(score, min(2, M), WORKSPACE)
    return found


def assert_within_limits(found: list[Launched]) -> None:
    assert found
    for one in found:
        assert all(1 <= count <= most for count, most in zip(one.grid, MOST, strict=False)), one


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(("N", "M"), SIZES)
def test_grids_are_within_what_a_gpu_takes(route, N, M):
    assert_within_limits(reduced(route, N, M, 132))


@pytest.mark.parametrize("route", ROUTES)
def test_a_symmetric_problem_is_within_them_too(route):
    assert_within_limits(reduced(route, 70_000, 70_000, 132, symmetric=True))


@pytest.mark.parametrize("route", ROUTES)
def test_kernels_are_compiled_with_the_same_constants_at_every_size(route):
    """So what `test_compiled.py` says of shared memory and registers holds for all of them."""
    every = {size: {(one.kernel, one.constants) for one in reduced(route, *size, 132)} for size in SIZES}
    assert all(constants == every[300, 300] for constants in every.values())


def test_launches_and_all_that_they_are_handed_are_on_the_device_of_x(monkeypatch):
    """Meta stands for a device that is not the current one, unless `device_of` makes it that."""
    current, seen = [torch.device("cpu")], set()

    @contextlib.contextmanager
    def device_of(tensor: torch.Tensor) -> Iterator[None]:
        current.append(tensor.device)
        yield
        current.pop()

    def note(kernel, *args, grid, warmup, **options):
        seen.add((current[-1], *(a.device for a in tree_leaves(args) if isinstance(a, torch.Tensor))))

    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    monkeypatch.setattr(launch, "processors", lambda device: 132)
    with mock.patch.object(JITFunction, "run", note):
        for kind, dtype, D in ROUTES.values():
            with torch.device("meta"):
                x, y = (torch.empty(70, D, dtype=dtype) for _ in range(2))
                scale = torch.ones((), dtype=torch.float64)
            score = Score(x, y, scale, None, None, Exclude((0,)), kind, phi.IDENTITY)
            row = x.new_ones(70, dtype=score.dtype)
            backend.reduce(score, "logsumexp", True, WORKSPACE)
            backend.reduce_and_gradient(score, "logsumexp", Weighted(row, row), None, ALL, WORKSPACE)
            backend.gradient(score, "softplus", Upstream(row, None), Upstream(row, None), ALL, WORKSPACE)
            backend.paired(score, "logsumexp", Pairing(1 / 70, "anchor", normalize=True), ALL, WORKSPACE)
            backend.top_k(score, 3, WORKSPACE)
    assert {device for devices in seen for device in devices} == {x.device}


class Counted(TorchDispatchMode):
    """Operations of torch that launch something on a GPU."""

    LAUNCH_NOTHING = ("empty", "view", "slice", "select", "expand", "detach", "alias", "t.", "transpose", "unsqueeze")

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().removeprefix("aten::")
        if not any(name.startswith((word, f"new_{word}")) for word in self.LAUNCH_NOTHING):
            self.names.append(name)
        return function(*args, **(kwargs or {}))


SMALL = Needs(True, True, False, False, False)
WHOLE = {  # name: op, pairing, whether y is given, launches of ours, of torch
    "info_nce": ("logsumexp", Pairing(0.1, "anchor", normalize=True), True, 6, 3),
    "clip_loss": ("logsumexp", Pairing(0.1, "anchor", cols=True), True, 8, 4),
    "nt_xent": ("logsumexp", Pairing(0.1, "anchor", 500, normalize=True), False, 6, 3),
    "siglip_loss": ("softplus", Pairing(0.1, "softplus"), True, 6, 4),
}


@pytest.mark.parametrize("loss", WHOLE)
@pytest.mark.parametrize("N", [1000, 70_000])
def test_a_whole_loss_takes_few_launches_at_every_size(loss, N):
    """20 µs each on the host, for which the device waits in batches of up to 16,384 rows."""
    op, pairing, two, ours, of_torch = WHOLE[loss]
    with torch.device("meta"):
        x, y = (torch.empty(N, 64, dtype=torch.bfloat16) for _ in range(2))
        scale = torch.empty((), dtype=torch.float64)
    rest = None if two else x[: N // 2]
    pairing = pairing if two else pairing._replace(shift=N // 2)
    score = Score(
        x if two else x[: N // 2], y if two else None, scale, None, None, Exclude((0,)), "dot", phi.IDENTITY, rest=rest
    )
    with noted(132) as found, Counted() as counted:
        backend.paired(score, op, pairing, SMALL, WORKSPACE)
    assert len(found) <= ours, found
    assert_within_limits(found)
    assert len(counted.names) <= of_torch, counted.names


def test_kernels_are_handed_aligned_rows_wherever_a_batch_begins():
    """Others would be read element by element, by other code than what `test_compiled.py` looks at."""
    whole = torch.randn(7 * 20 + 1, dtype=torch.float32).bfloat16()
    score = Score(whole[1:].view(7, 20), None, torch.ones(()), None, None, Exclude((0,)), "dot", phi.IDENTITY)
    assert score.x.data_ptr() % 16 == 2
    given = launch.Problem.of(score)
    assert given.x.data_ptr() % 16 == 0 and torch.equal(given.x, score.x) and given.y is given.x


def test_vectors_at_an_unaligned_address_are_copied():
    bias, ids = torch.arange(8.0)[1:], torch.arange(8)[1:]
    x = torch.ones(7, 4)
    score = Score(x, None, torch.ones(()), bias, bias, Exclude(same=(ids, ids)), "dot", phi.IDENTITY)
    assert bias.data_ptr() % 16 == 4 and ids.data_ptr() % 16 == 8
    pairs = launch.Problem.of(score).pairs
    for given, was in ((pairs.row_bias, bias), (pairs.col_bias, bias), (pairs.same_rows, ids), (pairs.same_cols, ids)):
        assert given.data_ptr() % 16 == 0 and torch.equal(given, was)
