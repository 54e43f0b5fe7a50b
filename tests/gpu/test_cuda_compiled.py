"""Every CUDA kernel compiles for every GPU without a warning, spills nothing, and keeps to its budget of registers."""

import re
import subprocess

import pytest
import torch

from jessl_kernels.native import cuda, cuda_status
from tests.gpu import cuda_built, cuda_code
from tests.gpu.cuda_code import SOURCES, TARGETS, Kernel

setup = cuda_code.setup_py()
try:
    setup.find_toolkit()
    WITHOUT_TOOLKIT = ""
except setup.NotBuilt as why:
    WITHOUT_TOOLKIT = str(why)
needs_toolkit = pytest.mark.skipif(bool(WITHOUT_TOOLKIT), reason=WITHOUT_TOOLKIT)
needs_library = pytest.mark.skipif(not cuda_status().available, reason=cuda_status().reason)

SHARED = 48 << 10  # bytes that a block may have on every GPU without asking for more


@needs_toolkit
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_kernels_compile_without_warnings_and_within_their_registers(source, target):
    kernels = cuda_code.compiled(source, target)
    budgets = {name: most for (file, name), most in cuda_code.budgets().items() if file == source.name}
    assert {kernel.name for kernel in kernels} == set(budgets)
    for kernel in kernels:
        where = f"{kernel.name} for {target}"
        assert (kernel.spilled, kernel.stack) == (0, 0), f"{where}: registers spilled, or local memory"
        assert kernel.registers <= budgets[kernel.name], f"{where}: {kernel.registers} registers"
        assert kernel.shared <= SHARED, f"{where}: {kernel.shared} bytes of shared memory"


def test_what_is_shipped_is_compiled_here():
    assert [setup.machine(name) for name in setup.ARCHITECTURES.split(";")] == list(TARGETS)


def test_every_budget_is_of_a_file_that_is_there():
    assert {file for file, _ in cuda_code.budgets()} <= {source.name for source in SOURCES}


@needs_toolkit
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_no_kernel_adds_in_the_order_of_arrival(source):
    assert re.findall(r"^\s*(?:atom|red)\.\S+", cuda_code.ptx(source), re.MULTILINE) == []


@needs_library
def test_the_library_asks_for_no_driver_and_no_cuda_library():
    needed = subprocess.run(["ldd", cuda().__file__], capture_output=True, text=True, check=True).stdout
    assert "libc.so" in needed
    assert "cuda" not in needed.replace(cuda().__file__, "") and "torch" not in needed


@needs_library
def test_the_library_says_which_gpus_it_was_built_for():
    info = cuda_status().info
    assert re.fullmatch(r"\d+\.\d", info["toolkit"])
    assert re.fullmatch(r"(\d+\.\da?(\+PTX)? ?)+", info["architectures"])
    assert info["compiler"].split()[0] in {"gcc", "clang"}


@needs_library
def test_the_report_of_a_build_says_the_librarys_size_and_devices():
    lines = dict(line.split(maxsplit=1) for line in cuda_built.report().splitlines())
    assert re.fullmatch(r"_cuda\S+, \d+\.\d\d MB", lines["library"])
    assert lines["devices"] == cuda().devices()


@needs_library
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_a_launch_is_an_error():
    assert cuda().devices().startswith("none: ")
    none, words = (0, 0), ([], [], [], [])
    sweep = cuda().Sweep(0, 0, "identity", none, 0, 1.0, 0, 0, *words, none, none, "logsumexp", (1.0,))
    with pytest.raises(RuntimeError, match=r"^cudaSetDevice: "):
        sweep.finish((0, 16, 0, 1, 9))


TOLD = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN5jessl12_GLOBAL__N_16settleILi3EEEvPKfl' for 'sm_90'
ptxas info    : Function properties for _ZN5jessl4slowEf
    64 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Function properties for _ZN5jessl12_GLOBAL__N_16settleILi3EEEvPKfl
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 8 bytes cumulative stack size, 128 bytes smem
ptxas info    : Compile time = 1.2 ms
ptxas info    : Compiling entry function '_Z5otherv' for 'sm_90'
ptxas info    : Function properties for _Z5otherv
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers, 380 bytes cmem[0]
"""


def test_the_assembler_is_read_kernel_by_kernel():
    assert cuda_code.kernels_of(TOLD) == [
        Kernel("settle", "sm_90", registers=32, spilled=16, stack=8, shared=128),
        Kernel("other", "sm_90", registers=8, spilled=0, stack=0, shared=0),
    ]
