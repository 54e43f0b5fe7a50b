"""What a step does, as numbers that can be added: a launch of a kernel, or a call of the library."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, fields


@dataclass
class Step:
    """flops  by the unit that takes them: bf16 (fp16 too), tf32, fp32, fp64
    exponentials, special  of e^x, and of logarithms, roots and divisions, which share their unit
    additions, multiplications, lanes  of single numbers; a multiplication and an addition may be one instruction
    loaded, stored  bytes that programs ask of L2 for; memory  those of them that come from, or go to, memory at least once
    """

    flops: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    exponentials: float = 0.0
    special: float = 0.0
    additions: float = 0.0
    multiplications: float = 0.0
    lanes: float = 0.0
    loaded: float = 0.0
    stored: float = 0.0
    memory: float = 0.0
    atomics: float = 0.0
    launches: float = 0.0

    def plus(self, other: Step, times: float = 1.0) -> Step:
        """self + times · other."""
        units = {*self.flops, *other.flops}
        flops = {unit: self.flops.get(unit, 0.0) + times * other.flops.get(unit, 0.0) for unit in units}
        numbers = {
            f.name: getattr(self, f.name) + times * getattr(other, f.name) for f in fields(Step) if f.name != "flops"
        }
        return Step(flops, **numbers)

    def times(self, factor: float) -> Step:
        return Step().plus(self, factor)


Work = dict[str, Step]  # by the name of the kernel


def plus(a: Work, b: Work, times: float = 1.0) -> Work:
    return {name: a.get(name, Step()).plus(b.get(name, Step()), times) for name in [*a, *(n for n in b if n not in a)]}


def total(work: Work) -> Step:
    result = Step()
    for step in work.values():
        result = result.plus(step)
    return result


def per_pair(once: Work, twice: Work, N: int, rows: int) -> Work:
    """The work of a pair of rows among so many, from the work at N and at 2N rows, taken to be a·N² + b·N."""
    pairs, lines = plus(twice, once, -2.0), plus(twice, once, -4.0)
    return plus({name: step.times(0.5 / N**2) for name, step in pairs.items()}, lines, -0.5 / (N * rows))
