"""The least time that counted work implies: each step takes as long as its busiest resource, and steps follow each other.

Modelled, never measured: no latency, no launch, no instruction that is not counted, every peak sustained.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .contenders import ROWS, Contender
from .counted import counting, pretended
from .devices import Device
from .work import Step, Work, per_pair, total


@dataclass
class Figure:
    """What one contender costs on one device, per pair of rows: work by kernel, and what it implies."""

    who: str
    loss: str
    D: int
    device: str
    work: Work = field(default_factory=dict)
    seconds: float = 0.0
    busiest: str = ""
    missing: str = ""  # why there is nothing
    analytic: bool = False

    @property
    def step(self) -> Step:
        return total(self.work)

    @property
    def products(self) -> float:
        return sum(self.step.flops.values()) / (2 * self.D)

    @property
    def units(self) -> str:
        return ", ".join(unit for unit, flops in self.step.flops.items() if flops / self.D > 1e-3)


def busy(step: Step, device: Device) -> dict[str, float]:
    """Seconds that each resource needs."""
    return {
        "matrix units": sum(flops / device.flops[unit] for unit, flops in step.flops.items()),
        "special functions": (step.exponentials + step.special) / device.special,
        # A multiplication and the addition after it are one instruction at best.
        "lanes": (max(step.additions, step.multiplications) + step.lanes) / device.lanes,
        "L2": (step.loaded + step.stored) / device.l2,
        "memory": step.memory / device.memory,
    }


def bound(work: Work, device: Device) -> tuple[float, str]:
    """Seconds, and the resource that is busiest for most of them."""
    spent: dict[str, float] = {}
    for step in work.values():
        needs = busy(step, device)
        most = max(needs, key=lambda resource: needs[resource])
        spent[most] = spent.get(most, 0.0) + max(0.0, needs[most])
    return sum(spent.values()), max(spent, key=lambda resource: spent[resource])


def executed(contender: Contender, device: Device, N: int, parts: int = 1) -> Work:
    """The work of one call at N rows, the score matrix in so many parts each way."""
    with pretended(device.capability, amd=device.is_amd), counting() as work:
        contender.run(N, parts)
    return dict(work)


def counted(contender: Contender, device: Device) -> Work:
    """Work per pair at ROWS rows, from what was counted at N and 2N."""
    parts = contender.parts(device.capability)
    once, twice = (executed(contender, device, n * contender.N, parts) for n in (1, 2))
    return per_pair(once, twice, contender.rows * contender.N, ROWS)


def figure(contender: Contender, device: Device, known: dict) -> Figure:
    """`known` keeps what was counted, for devices between which it does not differ."""
    found = Figure(contender.who, contender.loss, contender.D, device.name)
    parts, shapes = contender.parts(device.capability), contender.varies(device.capability)
    key = contender.who, contender.loss, contender.D, parts, shapes, device.is_amd
    try:
        if key not in known:
            known[key] = counted(contender, device)
    except ImportError as error:
        found.missing = str(error)
        return found
    found.work = known[key]
    found.seconds, found.busiest = bound(found.work, device)
    return found


def analytic(device: Device, D: int) -> list[Figure]:
    """Attention as InfoNCE: its log-sum-exps are the loss, and with the keys for values its result is the gradient of the
    queries. Forward S and P·V. Backward: S, dV, dP, dQ, dK in one sweep, as fused kernels behind scaled_dot_product_attention
    do; that of flex_attention makes S and dP once for the queries and once for the keys. Traffic is not counted."""
    figures = []
    for who, backward, exponentials in (("scaled_dot_product_attention", 5, 1), ("flex_attention", 7, 2)):
        work = {
            "forward": Step({"bf16": 2 * 2.0 * D}, exponentials=1),
            "backward": Step({"bf16": backward * 2.0 * D}, exponentials=exponentials),
        }
        if D > 256 and backward == 5:
            missing = "its fused kernels take at most 256 dimensions"
            figures.append(Figure(who, "InfoNCE", D, device.name, missing=missing, analytic=True))
        else:
            figures.append(Figure(who, "InfoNCE", D, device.name, work, *bound(work, device), analytic=True))
    return figures
