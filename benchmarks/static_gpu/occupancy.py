"""How many programs of a compiled kernel fit on one multiprocessor at a time."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from triton.runtime.jit import JITFunction

from .compiled import TARGETS, Compiled, launches
from .contenders import Contender
from .counted import library, pretended
from .devices import Device


@dataclass(frozen=True)
class Fit:
    """registers of a thread; shared and spilled in bytes; programs on one multiprocessor, 0 where not even one fits."""

    who: str
    loss: str
    D: int
    target: str
    kernel: str
    warps: int = 0
    registers: int = 0
    spilled: int = 0
    shared: int = 0
    programs: int = 0
    atomics: int = 0
    missing: str = ""


def programs(kernel: Compiled, device: Device) -> int:
    warps = kernel.options.get("num_warps", 4)
    if kernel.shared > TARGETS[device.target].shared:
        return 0
    if device.is_amd:
        # 4 SIMDs of 512 registers a lane, handed out by eights; 8 waves on each at most.
        waves = 4 * min(8, 512 // max(8, -(-kernel.registers // 8) * 8))
        return min(waves // warps, device.shared // max(1, kernel.shared))
    each = -(-kernel.registers * 32 // 256) * 256  # registers of a warp
    reserved = 1024  # bytes that the system takes of each program's shared memory
    return min(65_536 // (each * warps), 64 // warps, 32, device.shared // (kernel.shared + reserved))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """An assembler prints each instruction that it refuses; the exception says enough."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def fits(contender: Contender, device: Device) -> list[Fit]:
    """Every kernel of a contender, compiled ahead of time, once each. After all counting: a compiler that fails leaves the
    executor without its printer."""
    where = contender.who, contender.loss, contender.D, device.target
    compiler = JITFunction.run
    try:
        with pretended(device.capability, amd=device.is_amd), library(), _quiet():
            JITFunction.run = compiler  # not the executor's
            with launches(device.target) as found:
                contender.run(max(contender.N, 2048 if contender.who == "siglip-kernel" else 0), 1)
    except ImportError:
        return []
    except Exception as error:
        if contender.who == "jessl_kernels":
            raise
        reason = re.sub(r"\S*/tmp\S*", "…", str(error).splitlines()[0])  # names of files differ from run to run
        return [Fit(*where, "", missing=f"{type(error).__name__}: {reason[:80]}")]
    unique = {(k.name, k.assembly): k for k in found}.values()
    return [
        Fit(
            *where, k.name, k.options.get("num_warps", 4), k.registers, k.spilled, k.shared, programs(k, device),
            k.count(r"\b(atom|red)\.|_atomic_"),
        )
        for k in unique
    ]  # fmt: skip
