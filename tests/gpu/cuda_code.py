"""The CUDA kernels' machine code without a GPU: every .cu of csrc/cuda compiled, and what the assembler says of each kernel.

    python -m tests.gpu.cuda_code      registers of every kernel on every GPU, as tests/gpu/cuda_registers.txt has them

setup.py supplies the compiler and its flags, so this is the code that an install makes.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
TABLE = Path(__file__).with_name("cuda_registers.txt")
TARGETS = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")


def setup_py() -> Any:
    """setup.py as a module."""
    spec = importlib.util.spec_from_file_location("setup_of_the_package", ROOT / "setup.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Kernel:
    """One kernel for one GPU.

    registers  of one thread
    spilled    bytes that did not fit into them
    stack      bytes of a thread's local memory, spilled ones included
    shared     bytes of shared memory of a block, without what a launch asks for
    """

    name: str
    target: str
    registers: int
    spilled: int
    stack: int
    shared: int


def compiled(source: Path, target: str) -> list[Kernel]:
    """The kernels of a file. A warning of nvcc or of the host's compiler is an error."""
    strict = ["-Werror", "all-warnings", "-Xcompiler=-Werror", "-Xptxas=-v"]
    return kernels_of(_nvcc(source, f"-arch={target}", *strict, "-c"))


def ptx(source: Path) -> str:
    """The PTX of a file for the oldest GPUs with bf16, which is in the library too."""
    with tempfile.TemporaryDirectory() as folder:
        _nvcc(source, "-arch=compute_80", "-ptx", output=Path(folder, "code"))
        return Path(folder, "code").read_text(encoding="utf-8")


def _nvcc(source: Path, *flags: str, output: Path | None = None) -> str:
    setup = setup_py()
    toolkit = setup.find_toolkit()
    host = ["-ccbin", setup.host_of(setup.find_compiler())]
    with tempfile.TemporaryDirectory() as folder:
        command = [toolkit.nvcc, *host, *setup.NVCCFLAGS, *flags, str(source)]
        command += ["-o", str(output or Path(folder, "code"))]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, f"{source.name}: {done.stdout}"
    return done.stdout


def kernels_of(told: str) -> list[Kernel]:
    """What `ptxas -v` said, kernel by kernel."""
    found = []
    for part in re.split(r"(?=ptxas info\s+: Compiling entry function)", told)[1:]:
        mangled, target = re.search(r"Compiling entry function '(\S+)' for '(\w+)'", part).groups()
        # Functions that were not inlined have such lines of their own, in front of the kernel's.
        properties = re.search(rf"Function properties for {re.escape(mangled)}\n([^\n]*)", part)[1]
        stack, stores, loads = map(int, re.findall(r"(\d+) bytes", properties))
        used = re.search(r"Used (\d+) registers([^\n]*)", part)
        shared = re.search(r"(\d+) bytes smem", used[2])
        found.append(
            Kernel(name_of(mangled), target, int(used[1]), stores + loads, stack, int(shared[1]) if shared else 0)
        )
    return found


def name_of(mangled: str) -> str:
    """The name of a function without its namespaces, its template's arguments and its parameters."""
    rest, name = mangled.removeprefix("_Z").removeprefix("N"), ""
    while length := re.match(r"\d+", rest):
        end = length.end() + int(length[0])
        name, rest = rest[length.end() : end], rest[end:]
    return name


def budgets() -> dict[tuple[str, str], int]:
    """The registers that each kernel, (file, name), may use."""
    lines = [line.split() for line in TABLE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return {(file, name): int(registers) for file, name, registers in lines}


if __name__ == "__main__":
    for source in SOURCES:
        kernels = [kernel for target in TARGETS for kernel in compiled(source, target)]
        for name in dict.fromkeys(kernel.name for kernel in kernels):
            of_name = [kernel for kernel in kernels if kernel.name == name]
            most = max(kernel.registers for kernel in of_name)
            print(f"{source.name:<16} {name:<24} {-(-most // 8) * 8}")
