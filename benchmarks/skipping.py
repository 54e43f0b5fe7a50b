"""The section of the report on pairs that cannot matter: ours beside itself, with and without skipping them."""

from __future__ import annotations

from itertools import groupby

from .contenders import label
from .rows import Row
from .words import error_text, memory_text, seconds_text


def skipping(found: list[Row]) -> str:
    """Times, what they gain, and how far value and gradient are from ours without skipping, at full size."""
    if not found:
        return ""
    lines = [
        "## Skipping pairs that cannot matter",
        "",
        "Value and gradient with `use_backend(skip_below=ε)`. `kde_clustered`: the entropy of points around 100 centers, at a "
        "bandwidth small against their distances. `nt_xent_trained`: two views of MNIST digits by encoders trained for some "
        "seconds, at temperature 0.01. Differences are from ours without skipping, of the same size; errors against fp64.",
        "",
        "| | N | D | | time | gain | memory | difference of value, gradient | error of value, gradient |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for _, group in groupby(found, key=lambda row: (row.problem, row.N, row.D)):
        for row in group:
            gain = f"×{1 / row.ratio:.2f}" if row.ratio else "–"
            off = (row.value_difference, row.gradient_difference)
            difference = "–" if None in off else ", ".join(f"{d:.0e}" for d in off)
            lines.append(
                f"| `{row.problem}` | {row.N:,} | {row.D} | {label(row.problem, row.contender)} | {seconds_text(row)} | {gain} "
                f"| {memory_text(row)} | {difference} | {error_text(row)} |"
            )
    return "\n".join(lines)
