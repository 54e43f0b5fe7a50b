"""The least time of counted work at the rates that the committed report of the H200 has. Modelled, never measured."""

from __future__ import annotations

import csv
from pathlib import Path

from tests.gpu.counting import Work

RESULTS = Path(__file__).parents[2] / "docs" / "benchmarks" / "h200" / "results.csv"
Rates = dict[str, float]  # a second: flops by unit; "memory": bytes; "launch": launches


def measured_rates(results: Path = RESULTS) -> Rates:
    """From the report's rows of bare operations; a rate that no run has measured yet is absent."""
    units = {
        "product bfloat16": "bf16",
        "product tf32": "tf32",
        "product float32": "fp32",
        "copy": "memory",
        "launch": "launch",
    }
    with results.open() as file:
        rows = [row for row in csv.DictReader(file) if row["problem"] == "machine"]
    return {units[row["contender"]]: float(row["rate"]) for row in rows if row["contender"] in units}


def modelled_seconds(work: Work, rates: Rates) -> float:
    """Steps follow each other, and each takes as long as its busiest resource: matrix units, memory, or the host that launches.

    No latency, no exponential and no instruction outside of products is counted, so a GPU takes longer. A resource whose
    rate is not known costs nothing.
    """

    def seconds(resource: str, amount: float) -> float:
        return amount / rates[resource] if resource in rates else 0.0

    return sum(
        max(
            sum(seconds(unit, flops) for unit, flops in step.flops.items()),
            seconds("memory", step.memory),
            seconds("launch", step.launches),
        )
        for step in work.values()
    )
