"""Grids are within a GPU's limits at every size: reductions over meta tensors, whose launches are recorded and not run."""

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

from jessl_kernels import phi
from jessl_kernels.backends import triton as backend
from jessl_kernels.backends.products import product
from jessl_kernels.problem.exclude import Exclude
from jessl_kernels.problem.row_loss import Loss, Positives, RowProblem
from jessl_kernels.problem.score import Score
from jessl_kernels.problem.types import Needs, SideSlopes, Slopes, Terms
from jessl_kernels.triton import dispatch, launch

MOST = (2**31 - 1, 65_535, 65_535)  # CUDA's limits of programs along each axis
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
    """A requested launch; constants are everything that the kernel is compiled with."""

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
        product(a, a.T, torch.float32)
    (taken, _), options = mm.call_args
    assert taken is a and options == {"out_dtype": torch.float32}


def needs_of(problem: RowProblem, *, scale: bool = True, biases: bool = True) -> Needs:
    row, col = (biases and bias is not None for bias in (problem.row_bias, problem.col_bias))
    return Needs(True, slice(0, problem.M if problem.y else 0), scale, row, col)


def reduced(route: str, N: int, M: int, processors: int, symmetric: bool = False) -> list[Launched]:
    """The launches of sums, of their gradients and of losses, each with every gradient."""
    kind, dtype, D = ROUTES[route]
    with torch.device("meta"):
        x, y = torch.empty(N, D, dtype=dtype), () if symmetric else (torch.empty(M, D, dtype=dtype),)
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        row, col = torch.empty(N, dtype=wide), torch.empty(M, dtype=wide)
        ids = torch.empty(N, dtype=torch.int64), torch.empty(M, dtype=torch.int64)
        scale = torch.empty((), dtype=torch.float64)
    exclude = Exclude(diagonals=(0, 1, -1)) if symmetric else Exclude((0,), ids, ids, (1,))
    bias = (None, None) if symmetric else (row, col)
    with noted(processors) as found:
        for op in ("logsumexp", "softplus"):
            for both in (False,) if symmetric else (False, True):
                problem = RowProblem((x,), y, scale, *bias, exclude, kind, phi.IDENTITY, negatives=Terms(op), cols=both)
                sums, needs = backend.row_sums(problem, WORKSPACE), needs_of(problem)
                arriving = SideSlopes(row[None]), SideSlopes(col[None]) if both else None
                backend.row_grads(problem, sums, Slopes(*arriving), needs, WORKSPACE)
                backend.row_loss(problem, Loss("none"), needs, WORKSPACE)
        dispatch.top_k(problem.score(x, y[0] if y else None), min(2, M), WORKSPACE)
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
    """So the limits that `test_compiled.py` checks, of shared memory and registers, hold at all sizes."""

    def compiled(
        one: Launched,
    ) -> tuple[str, tuple[tuple[str, object], ...]]:  # parts are merged a few or many at a time
        return one.kernel, tuple(constant for constant in one.constants if constant[0] != "PARTS_PER_LOAD")

    every = {size: {compiled(one) for one in reduced(route, *size, 132)} for size in SIZES}
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
            ids = torch.zeros(70, dtype=torch.int64, device="meta")
            for negatives, positives, join in (
                (Terms(), Positives(shift=0), "softplus"),
                (Terms("softplus"), Positives(), "none"),
                (Terms(), Positives(row_ids=ids, col_ids=ids), "softplus_spread"),
            ):
                problem = RowProblem(
                    (x,), (y,), scale, None, None, Exclude((0,)), kind, phi.IDENTITY, positives=positives, negatives=negatives,
                    of_positives=Terms(linear=True), cols=True, normalize=kind == "dot",
                )  # fmt: skip
                sums = backend.row_sums(problem, WORKSPACE)
                side = SideSlopes(torch.ones_like(sums.row.negatives.total))
                backend.row_grads(problem, sums, Slopes(side, side), needs_of(problem), WORKSPACE)
                backend.row_loss(problem, Loss(join), needs_of(problem), WORKSPACE)
            score = problem.score(x, y)
            backend.total(score, needs_of(problem), WORKSPACE)
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


PAIRED = {"positives": Positives(shift=0), "exclude": Exclude()}
WHOLE = {  # name: the problem's fields, join, whether y is given, launches of ours, of torch
    "info_nce": ({**PAIRED, "normalize": True}, "softplus", True, 6, 3),
    "clip_loss": ({**PAIRED, "cols": True}, "softplus", True, 8, 4),
    "nt_xent": ({"normalize": True}, "softplus", False, 6, 3),
    "siglip_loss": (
        {**PAIRED, "negatives": Terms("softplus"), "of_positives": Terms("softplus", (-1.0,))},
        "sum",
        True,
        6,
        4,
    ),
    "sup_con": ({"of_positives": Terms(linear=True), "normalize": True}, "softplus_spread", False, 7, 16),
}


@pytest.mark.parametrize("loss", WHOLE)
@pytest.mark.parametrize("N", [1000, 70_000])
def test_a_whole_loss_takes_few_launches_at_every_size(loss, N):
    """A launch takes the host 20 µs, for which the device waits in batches of up to 16,384 rows."""
    fields, join, two, ours, of_torch = WHOLE[loss]
    with torch.device("meta"):
        x, y = (torch.empty(N, 64, dtype=torch.bfloat16) for _ in range(2))
        scale = torch.empty((), dtype=torch.float64)
        ids = torch.empty(N, dtype=torch.int64)
    pieces = ((x,), (y,)) if two else ((x[: N // 2], x[: N // 2]), ())
    if loss == "sup_con":
        pieces, fields = ((x,), ()), {**fields, "positives": Positives(row_ids=ids, col_ids=ids)}
    elif not two:
        fields = {**fields, "positives": Positives(shift=N // 2)}
    problem = RowProblem(
        *pieces, scale, None, None, **{"exclude": Exclude((0,)), "kind": "dot", "phi": phi.IDENTITY, **fields}
    )
    reduction = "mean_counted" if loss == "sup_con" else "mean"
    with noted(132) as found, Counted() as counted:
        backend.row_loss(problem, Loss(join, reduction), needs_of(problem, scale=False), WORKSPACE)
    assert len(found) <= ours, found
    assert_within_limits(found)
    assert len(counted.names) <= of_torch, counted.names


def test_columns_without_a_gradient_cost_no_tiles():
    """A queue follows the keys, and has no gradient."""
    N, M = 1000, 70_000
    with torch.device("meta"):
        x, keys, queue = (torch.empty(n, 64, dtype=torch.bfloat16) for n in (N, N, M - N))
        scale = torch.empty((), dtype=torch.float64)
    positives = Positives(shift=0)
    problem = RowProblem((x,), (keys, queue), scale, None, None, Exclude(), "dot", phi.IDENTITY, positives=positives)

    def pulled(y: slice) -> list[Launched]:
        with noted(132) as found:
            backend.row_loss(problem, Loss("softplus"), Needs(True, y, False, False, False), WORKSPACE)
        return [one for one in found if one.kernel == "pull"]

    assert pulled(slice(0, 0)) == []
    (of_keys,), (of_all,) = pulled(slice(0, N)), pulled(slice(0, M))
    assert of_keys.grid[0] == -(-N // dict(of_keys.constants)["BM"]) < of_all.grid[0]


def test_kernels_are_handed_aligned_rows_wherever_a_batch_begins():
    """Unaligned rows would be read element by element, by code that `test_compiled.py` does not check."""
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
    ((rows, cols),) = pairs.same
    for given, was in ((pairs.row_bias, bias), (pairs.col_bias, bias), (rows, ids), (cols, ids)):
        assert given.data_ptr() % 16 == 0 and torch.equal(given, was)
