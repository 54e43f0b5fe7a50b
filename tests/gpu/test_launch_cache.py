"""A compiled kernel is launched again for those arguments for which Triton would launch it, and for no others."""

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from triton._C.libtriton import native_specialize_impl
from triton.backends.nvidia.compiler import CUDABackend

from jessl_kernels.triton import launch_cache
from jessl_kernels.triton.launch import Pairs, Side
from jessl_kernels.triton.launch_cache import launch_cached
from tests.gpu.compiled import TARGETS

PLENTY = torch.zeros(64)
HALF = torch.zeros(64, dtype=torch.bfloat16)


class Named(torch.Tensor):
    pass


TENSORS = [
    PLENTY,
    PLENTY[1:],  # at an address that allows no vector load
    PLENTY[4:],
    torch.nn.Parameter(PLENTY),
    PLENTY.as_subclass(Named),
    HALF,
    HALF[1:],
    PLENTY.double(),
    PLENTY.long(),
    PLENTY.int(),
]
INTS = [0, 1, 2, 15, 16, 17, 48, -1, -16, 2**31 - 1, 2**31, 2**31 + 16, -(2**31), -(2**31) - 1, 2**40, 2**40 + 1]
SIDES = [Side(a, b, a) for a, b in itertools.product(TENSORS[:3], repeat=2)]
PAIRS = [
    Pairs(None, v, ds, (), None, None, None, None) for v in (None, PLENTY, PLENTY[1:]) for ds in ((), (2,), (2, 6))
]
ARGUMENTS = [None, *TENSORS, *INTS, *SIDES, *PAIRS]


def test_arguments_of_one_kind_have_one_specialisation():
    backend = CUDABackend(TARGETS["sm_90"].target)
    seen: dict[Any, Any] = {}
    for argument in ARGUMENTS:
        found = native_specialize_impl(backend, argument, False, True, True)
        assert seen.setdefault(launch_cache._kind(argument), found) == found, argument


@pytest.mark.parametrize("argument", [0.5, "word", True], ids=str)
def test_what_can_only_be_a_constant_is_refused_as_an_argument(argument):
    with pytest.raises(TypeError, match="cannot be an argument of a kernel"):
        launch_cache._kind(argument)


class Compiled:
    """A compiled kernel as Triton returns it from a launch; it can be launched again."""

    def __init__(self) -> None:
        self.launches: list[tuple] = []

    def __getitem__(self, grid: tuple) -> Any:
        return lambda *args: self.launches.append((grid, *args))


class Kernel:
    def __init__(self) -> None:
        self.fn, self.searches = (lambda: None), []
        self.params = [SimpleNamespace(name=name) for name in ("x", "n", "BM", "BN")]

    def __getitem__(self, grid: tuple) -> Any:
        def launch(*args: Any, **constants: Any) -> Compiled:
            self.searches.append(Compiled())
            return self.searches[-1]

        return launch


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.setattr(launch_cache, "CompiledKernel", Compiled)
    monkeypatch.setattr(launch_cache, "_found", {})
    return Kernel()


def test_the_second_launch_hands_over_all_constants_in_the_order_of_the_signature(kernel):
    for n in (5, 6):
        launch_cached(kernel, (7,), PLENTY, n, BN=32, BM=16, num_warps=4)
    (compiled,) = kernel.searches
    ((grid, x, n, *constants),) = compiled.launches
    assert grid[:3] == (7, 1, 1) and x is PLENTY and n == 6 and constants == [16, 32]


@pytest.mark.parametrize(
    ("x", "n", "constants"),
    [
        (PLENTY[1:], 5, {"BM": 16}),
        (HALF, 5, {"BM": 16}),
        (torch.empty(64, device="meta"), 5, {"BM": 16}),
        (PLENTY, 16, {"BM": 16}),
        (PLENTY, 1, {"BM": 16}),
        (PLENTY, 5, {"BM": 32}),
        (PLENTY, 5, {"BM": 16, "num_warps": 8}),
    ],
    ids=["address", "dtype", "device", "multiple of 16", "1", "constant", "warps"],
)
def test_another_kind_of_launch_is_searched_for(kernel, x, n, constants):
    launch_cached(kernel, (7,), PLENTY, 5, BM=16, BN=32)
    launch_cached(kernel, (7,), x, n, **constants, BN=32)
    assert len(kernel.searches) == 2 and not any(compiled.launches for compiled in kernel.searches)


def test_nothing_is_kept_for_amd(kernel, monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "7.0")
    for _ in range(2):
        launch_cached(kernel, (7,), PLENTY, 5, BM=16, BN=32)
    assert len(kernel.searches) == 2
