"""What a device can do at most, from public documents of its vendor; no number here was measured.

Peaks of matrix units are dense ones. Clocks are those at which the vendor's peak holds: peak / (SMs × flops a clock). Special
functions: 16 a clock and SM (CUDA programming guide, table of arithmetic throughput; a quarter of the 64 lanes of a CU on
CDNA 3). Single lanes: 128 a clock on each of them.

    A100 SXM 80 GB   A100 datasheet; L2: A100 whitepaper, 5120 bytes a clock
    H100 SXM         H100 datasheet and whitepaper; NVIDIA names no bandwidth of L2: taken as 64 bytes a clock and SM, the most
    H200 SXM         that one of them can receive, so that the bound stays a bound. The same for B200.
    B200             HGX B200 datasheet (an eighth of the dense peaks of the board)
    MI300X           MI300X datasheet; L2: CDNA 3 whitepaper, 2048 bytes a clock on each of 8 dies
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """target  as in `compiled.TARGETS`; flops by unit, bytes of L2 and of memory, all a second; shared: bytes on each SM."""

    name: str
    target: str
    capability: tuple[int, int]
    processors: int
    clock: float
    flops: dict[str, float]
    l2: float
    memory: float
    shared: int

    @property
    def special(self) -> float:
        return 16 * self.processors * self.clock

    @property
    def lanes(self) -> float:
        return 128 * self.processors * self.clock

    @property
    def is_amd(self) -> bool:
        return self.target.startswith("gfx")


def _flops(bf16: float, tf32: float, fp32: float, fp64: float) -> dict[str, float]:
    return {"bf16": bf16 * 1e12, "tf32": tf32 * 1e12, "fp32": fp32 * 1e12, "fp64": fp64 * 1e12}


def _widest(processors: int, clock: float) -> float:
    return 64 * processors * clock


HOPPER = _flops(989.4, 494.7, 66.9, 66.9)
DEVICES = [
    Device("A100", "sm_80", (8, 0), 108, 1.41e9, _flops(312, 156, 19.5, 19.5), 5120 * 1.41e9, 2.039e12, 164 << 10),
    Device("H100", "sm_90", (9, 0), 132, 1.83e9, HOPPER, _widest(132, 1.83e9), 3.35e12, 228 << 10),
    Device("H200", "sm_90", (9, 0), 132, 1.83e9, HOPPER, _widest(132, 1.83e9), 4.8e12, 228 << 10),
    Device("B200", "sm_100", (10, 0), 148, 1.86e9, _flops(2250, 1125, 75, 37), _widest(148, 1.86e9), 7.7e12, 228 << 10),
    Device(
        "MI300X", "gfx942", (9, 4), 304, 2.1e9, _flops(1307.4, 653.7, 163.4, 163.4), 8 * 2048 * 2.1e9, 5.3e12, 64 << 10
    ),
]
