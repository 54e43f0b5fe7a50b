"""In every test scratch memory of the C++ core holds NaN until it is written (csrc/cpu/scratch.h), and kernels for GPUs run."""

import collections
import contextlib
import os
import zlib

import pytest
import torch

import jessl_kernels as jk
from jessl_kernels.backends import cpu, cuda
from jessl_kernels.native import native_status
from tests import cuda_model, executor
from tests.skipping import Counting

os.environ["JESSL_POISON"] = "1"  # read once, when the core first takes scratch memory

# If a test has more than FEW cases on the executor, or on the model of a GPU, a run takes one case in ONE_IN, and the nightly run
# takes all.
FEW, ONE_IN = 8, 6
MANY = 1000  # with more cases than this, a run takes a third
LARGE = {
    "test_gradients_through_close_pairs_wherever_they_lie",
    "test_log_sum_exps_hundreds_of_powers_of_two_apart",
    "test_pairs_further_than_one_look_at_the_flags_reaches",
    "test_points_in_512_dimensions_whose_densities_lie_2_to_the_130_apart",
}


def pytest_collection_modifyitems(config, items):
    """A launch takes the executor 50 ms, so of the largest tables it runs only cases that take different paths in a kernel."""
    dropped = [item for item in items if _is_repeated(item) or _is_declined(item)]
    config.hook.pytest_deselected(items=dropped)
    items[:] = [item for item in items if not (_is_repeated(item) or _is_declined(item))]
    cases = collections.Counter((item.originalname, _backend(item)) for item in items if _is_executed(item))
    every = collections.Counter(item.originalname for item in items)
    for item in items:
        number = zlib.crc32(item.name.encode())  # a hash, so that a case keeps its place when others are added
        left_out = every[item.originalname] > MANY and number % 3
        if _is_executed(item):
            left_out = (
                left_out or _is_large(item) or (cases[item.originalname, _backend(item)] > FEW and number % ONE_IN)
            )
        on_gpu = ("triton", "cuda") if executor.REAL and not cuda.MISSING else ("triton",)
        if _backend(item) in on_gpu:
            item.add_marker(pytest.mark.gpu)
        if left_out or _is_for_another_gpu(item):
            item.add_marker(pytest.mark.nightly)


def _is_for_another_gpu(item) -> bool:
    """Machine code for one GPU is checked in every run, of 5 and of 128 dimensions; that for the others at night."""
    if item.path.name not in ("test_compiled.py", "test_cuda_compiled.py"):
        return False
    target = _parameters(item).get("target")
    return target not in (None, "sm_90") or any(width in item.name for width in ("-D64-", "-D256-"))


def _is_executed(item) -> bool:
    """Whether it runs kernels for GPUs without a GPU."""
    return not executor.REAL and _backend(item) in ("triton", "cuda")


def _is_large(item) -> bool:
    """Cases of hundreds of rows on the executor, which is slow and runs the same kernels in smaller cases, or of many hypothesis
    examples."""
    options = _parameters(item)
    if options.get("backend") == "cuda":
        return item.path.name == "test_identities.py"
    rows = options.get("n", 0), *options.get("shape", (0,))[:2]
    return max(rows) > 100 or item.path.name == "test_identities.py" or item.originalname in LARGE


def _is_repeated(item) -> bool:
    options = _parameters(item)
    if options.get("backend") != "triton" or executor.REAL:
        return False
    if item.originalname == "test_gradcheck_in_fp64":
        return True  # hundreds of calls each; the oracles have the same gradients in fp64
    if item.originalname == "test_every_word_and_every_way_to_name_positives":
        return options["dtype"] in (torch.float32, torch.float16)  # strips are run in fp64, fused tiles in bf16
    matrix = item.originalname == "test_every_option_of_logsumexp"
    return matrix and (options["anchored"] or options["reduction"] == "sum")


def _is_declined(item) -> bool:
    """Whether the cuda backend leaves it to others: fp64, by a parameter or in all of the test."""
    options = _parameters(item)
    in_fp64 = options.get("dtype") == torch.float64 or item.originalname == "test_gradcheck_in_fp64"
    return options.get("backend") == "cuda" and in_fp64


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """A test in fp64 for which there was no parameter to see it by is skipped for the cuda backend."""
    try:
        return (yield)
    except NotImplementedError as declined:
        if _backend(pyfuncitem) == "cuda" and "float64 is not compiled into it" in str(declined):
            pytest.skip("the cuda backend leaves fp64 to others")
        raise


def _backend(item) -> str | None:
    return _parameters(item).get("backend")


def _parameters(item) -> dict:
    called = getattr(item, "callspec", None)
    return {} if called is None else called.params


@pytest.fixture
def tf32_allowed():
    """With torch's switch for TF32 products on."""
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    yield
    torch.backends.cuda.matmul.fp32_precision = before


@pytest.fixture
def bf16_products():
    """With torch's switch for bf16 products of fp32 matrices on the CPU, which some processors have."""
    before = torch.backends.mkldnn.matmul.fp32_precision
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    yield
    torch.backends.mkldnn.matmul.fp32_precision = before


@pytest.fixture
def at_level(level, monkeypatch):
    """The cpu backend runs the code for this level of instructions."""
    if level not in native_status().info["simd_cpu"].split():
        pytest.skip(f"this processor does not run {level}")
    monkeypatch.setenv("JESSL_SIMD", level)


@pytest.fixture
def cpu_backend():
    """The cpu backend computes, and the test may change the number of threads."""
    threads = torch.get_num_threads()
    with jk.use_backend("cpu"):
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def core(monkeypatch):
    """The C++ core; its `tiles` are those of its last call."""
    counting = Counting(cpu._core)
    monkeypatch.setattr(cpu, "_core", counting)
    return counting


@pytest.fixture(autouse=True)
def _gpu_in_place(request):
    """For tests of a backend for GPUs: a GPU, or a pretended one."""
    backend = _parameters(request.node).get("backend")
    memories = 1 if "peers" in request.node.path.parts else 2
    with contextlib.ExitStack() as placed:
        if backend == "triton":
            placed.enter_context(executor.gpu(memories))
        elif backend == "cuda":
            placed.enter_context(cuda_model.gpu())
            if _takes_strips(request.node):
                placed.enter_context(cuda_model.by_strips())
        yield


def _takes_strips(item) -> bool:
    """Whether this case of the cuda backend goes by strips: one in two, because problems of the suite are so small that all of
    them would go without."""
    return zlib.crc32(item.name.encode()) // ONE_IN % 2 == 0
