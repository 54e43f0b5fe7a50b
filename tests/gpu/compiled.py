"""Machine code for GPUs that are not here: every launch of a reduction compiled ahead of time, with what the code needs.

Triton asks a driver for the target alone; one that only answers is enough to compile. `JITFunction.warmup` specialises on the
arguments as a launch does (alignment, strides of 1), so this is the code that a user's GPU would run.
"""

from __future__ import annotations

import contextlib
import functools
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.runtime.jit import JITFunction

from jessl_kernels.triton import shapes


@dataclass(frozen=True)
class Target:
    """A GPU to compile for, and the bytes of shared memory that one program may have on it."""

    target: GPUTarget
    shared: int


TARGETS = {
    "sm_80": Target(GPUTarget("cuda", 80, 32), 166_912),  # A100
    "sm_86": Target(GPUTarget("cuda", 86, 32), 101_376),  # RTX 30, A10; sm_89 has as much
    "sm_90": Target(GPUTarget("cuda", 90, 32), 232_448),  # H100, H200
    "sm_100": Target(GPUTarget("cuda", 100, 32), 232_448),  # B200
    "sm_120": Target(GPUTarget("cuda", 120, 32), 101_376),  # RTX 50
    "gfx942": Target(GPUTarget("hip", "gfx942", 64), 65_536),  # MI300
}


@dataclass(frozen=True)
class Compiled:
    """One kernel for one target.

    key        of Triton's cache: what was compiled apart has another one, though the code be the same
    options    the constants it was compiled with, warps and stages among them
    assembly   PTX, or the assembly of an AMD GPU
    shared     bytes of shared memory
    registers, spilled  of one thread, and the bytes that did not fit into them
    """

    name: str
    target: str
    key: str
    options: dict[str, Any]
    assembly: str
    shared: int
    registers: int
    spilled: int

    def count(self, pattern: str) -> int:
        return len(re.findall(pattern, self.assembly))

    @property
    def exponentials(self) -> float:
        """How many stand in the code for each score of a tile."""
        lanes = (64 if self.target.startswith("gfx") else 32) * self.options["num_warps"]
        return self.count(r"\bex2\.approx|\bv_exp_f32") / (self.options["BM"] * self.options["BN"] / lanes)

    @property
    def products(self) -> int:
        """Instructions of the tensor cores."""
        return self.count(r"\bmma\.sync|\bwgmma\.mma_async|\btcgen05\.mma|\bv_mfma")


class _Driver(DriverBase):
    """Answers what the compiler asks a driver for; there is no device behind it."""

    is_active = staticmethod(lambda: True)  # pyright: ignore[reportAssignmentType]

    def __init__(self, target: GPUTarget):
        self.target = target

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return hash((self.target.backend, self.target.arch)) % 10_007  # kernels are kept by device

    def get_current_stream(self, device: int | None = None) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def map_python_to_cpp_type(self, ty: str) -> str:
        return ty

    def get_benchmarker(self) -> Callable:
        raise NotImplementedError("there is nothing to time")


@contextlib.contextmanager
def launches(name: str) -> Iterator[list[Compiled]]:
    """Within the block launches are compiled for this target instead of run, and gathered; outputs keep what they held."""
    found: list[Compiled] = []
    run = JITFunction.run

    def compile_only(kernel: JITFunction, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        made = run(kernel, *args, grid=grid, warmup=True, **options)
        found.append(_examined(kernel.__name__, name, options, made))

    driver = _Driver(TARGETS[name].target)
    with (
        mock.patch.object(triton.runtime.driver, "_active", driver),
        mock.patch.object(JITFunction, "run", compile_only),
        mock.patch.object(torch.version, "hip", "7.0" if driver.target.backend == "hip" else None),
        mock.patch.object(shapes, "hopper", lambda device: name == "sm_90"),
    ):
        yield found


def _examined(kernel: str, target: str, options: dict[str, Any], made: Any) -> Compiled:
    if "ptx" in made.asm:
        assembly = made.asm["ptx"]
        registers, spilled = _assembled(assembly)
    else:
        assembly = made.asm["amdgcn"]
        registers, spilled = (
            max(int(n) for n in re.findall(rf"\.{what}:\s+(\d+)", assembly))
            for what in ("vgpr_count", "vgpr_spill_count")
        )
    return Compiled(kernel, target, made.hash, options, assembly, made.metadata.shared, registers, spilled)


@functools.cache
def _assembled(ptx: str) -> tuple[int, int]:
    """Registers of a thread and bytes spilled, by NVIDIA's assembler, which Triton brings along."""
    found = re.search(r"\.target (sm_(\d+)\w*)", ptx)
    assert found is not None
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    assembler = tools / ("ptxas-blackwell" if int(found[2]) >= 100 else "ptxas")
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as source:
        source.write(ptx)
        source.flush()
        command = [str(assembler), "-v", f"-arch={found[1]}", source.name, "-o", "/dev/null"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", said)
    used = re.search(r"Used (\d+) registers", said)
    assert spills is not None and used is not None, said
    return int(used[1]), int(spills[1]) + int(spills[2])
