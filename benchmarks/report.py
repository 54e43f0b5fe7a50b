"""The report of a device as Markdown, from its rows: the machine, a summary, a table for each problem, and the rows we lose."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from .charts import EXP, roof_seconds
from .contenders import contender
from .problems import OTHERS, PROBLEMS, pairs, unit_pairs, views
from .rows import MACHINE, Row, time_text

LARGE = 16_384
EVEN = 1.1  # within this the two sides are even: a tenth of medians is what a busy machine moves
MAIN = ("ours", "matrix", "compiled")
SHORT = {"float32": "fp32", "bfloat16": "bf16"}


def markdown(found: list[Row], charts: list[Path]) -> str:
    machine = [row for row in found if row.problem == MACHINE]
    left = [row for row in found if row.status == "not reached"]
    timed = [row for row in found if row.problem != MACHINE and row not in left]
    plain = [row for row in timed if not PROBLEMS[row.problem].skips]
    parts = [
        _head(found),
        _rates(machine),
        _how(plain),
        *(f"![{chart.stem}]({chart.name})" for chart in charts),
        *_summaries(plain),
        *(_problem(name, [row for row in plain if row.problem == name]) for name in PROBLEMS if name not in OTHERS),
        _others([row for row in plain if row.problem in OTHERS]),
        _density(plain, machine),
        _memory(plain),
        _skipping([row for row in timed if PROBLEMS[row.problem].skips]),
        _lost(plain),
        _left(left),
    ]
    return "\n\n".join(part for part in parts if part)


def label(row: Row) -> str:
    return contender(row.problem, row.contender).label


def _head(found: list[Row]) -> str:
    first = found[0]
    commits = ", ".join(dict.fromkeys(row.commit for row in found))
    threads = f", {first.threads} threads" if first.threads else ""
    versions = f"jessl_kernels {first.jessl_kernels} at commit {commits}, torch {first.torch}, Python {first.python}"
    return f"# Benchmarks on {first.device}\n\n{first.device}{threads}; {versions}."


def _rates(machine: list[Row]) -> str:
    if not machine:
        return ""
    lines = ["| bare operation | |", "|---|---|"]
    for row in machine:
        unit = {"copy": "GB/s read and written", "launch": "thousand launches a second"}.get(row.contender, "GFLOP/s")
        scale = 1e3 if row.contender == "launch" else 1e9
        lines.append(f"| {row.contender} | {(row.rate or 0) / scale:,.0f} {unit} |")
    text = (
        "A product is torch's own of two square matrices. `best` is the roof that fractions below are of: the median of such "
        "products among the runs, or our own best rate where that is above it. Fractions are given from 4,096 rows on: with "
        "fewer rows the kernels may keep scores, and compute one product fewer than counted."
    )
    return "\n".join([*lines, "", text])


def _how(found: list[Row]) -> str:
    rounds = [row.rounds for row in found if row.rounds]
    spread = f"{min(rounds)} to {max(rounds)}" if rounds and min(rounds) < max(rounds) else f"{max(rounds, default=0)}"
    of = {name: PROBLEMS[name] for name in dict.fromkeys(row.problem for row in found)}
    counts = (f"`{name}` {p.products:g}" + (f" ({p.kept:g})" if p.kept != p.products else "") for name, p in of.items())
    of_views = ", ".join(f"`{name}`" for name, problem in PROBLEMS.items() if problem.batches is views)
    return (
        f"N is the number of rows of the score matrix: n pairs make N = 2n in {of_views}, "
        "N = n elsewhere, and `queue` has 65,536 columns. Times are of value and gradient, of the value alone where the table "
        f"says so: medians of rounds in which all sides run in random order ({spread} of them: each side fills the same share "
        "of the time), 20th to 80th percentile for ours; a call above 3 s counts once. Temperature, scale and bias are "
        "constants. scikit-learn and scipy compute in fp64, on one thread. ×r beside a rival is its time over ours. Memory is "
        "beyond the inputs: the growth of a process of its own on a CPU, of torch's allocator on a GPU. Errors are against the "
        "matrix form in fp64; who is wrong is not timed. The flops of a fraction are those that the mathematics needs in "
        "O(N·D) memory (in brackets: where scores are kept, which counts for the others): "
        f"{', '.join(counts)} products of 2·N·M·D."
    )


def _summaries(found: list[Row]) -> Iterable[str]:
    """The first tables to look at: for each dtype every loss, at the largest size at which most matrix forms were timed."""
    for dtype in dict.fromkeys(row.dtype for row in found):
        of = [row for row in found if (row.dtype, row.D) == (dtype, 128)]
        sizes = [N for N in {row.N for row in of} if sum(r.contender == "matrix" and r.N == N for r in of) > 3]
        if sizes:
            yield _summary([row for row in of if max(sizes) == row.N], dtype)


def _summary(found: list[Row], dtype: str) -> str:
    lines = [
        f"## All at N = {found[0].N:,}, D = {found[0].D}, {SHORT[dtype]}",
        "",
        "| | ours | matrix form | torch.compile | instead | memory: ours, matrix, compile, instead | of peak |",
        "|---|---|---|---|---|---|---|",
    ]
    for problem, group in groupby(found, key=lambda row: row.problem):
        side = {row.contender: row for row in group}
        peers = [row for name, row in side.items() if name not in MAIN]
        main = [side.get(name) for name in MAIN]
        instead = "<br>".join(f"{label(row)} {rival(row)}" for row in peers) or "–"
        memory = " · ".join(memory_text(row) for row in [*main, *peers] if row)
        ours = side.get("ours")
        cells = [seconds_text(ours), rival(main[1]), rival(main[2]), instead, memory, fraction_text(ours)]
        lines.append(f"| `{problem}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _problem(name: str, found: list[Row]) -> str:
    if not found:
        return ""
    labels = {row.contender: label(row) for row in found}
    rivals = [n for n in labels if n != "ours"]
    head = ["N", "D", "", "ours", "p20 – p80", "of peak", *(labels[n] for n in rivals)]
    head += [f"memory: {', '.join(labels.values())}", "error of value, gradient: ours", "matrix form"]
    lines = [f"## `{name}`", "", f"{_alone(name)}| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for (N, D, dtype), group in groupby(found, key=lambda row: (row.N, row.D, row.dtype)):
        side = {row.contender: row for row in group}
        ours = side.get("ours")
        line = [f"{N:,}", str(D), SHORT[dtype], seconds_text(ours), spread_text(ours), fraction_text(ours)]
        line += [rival(side.get(n)) for n in rivals]
        line.append(" · ".join(memory_text(side.get(n)) for n in labels))
        line += [error_text(ours), error_text(side.get("matrix"))]
        lines.append(f"| {' | '.join(line)} |")
    return "\n".join([*lines, *_notes(found)])


def _others(found: list[Row]) -> str:
    """Operations of which one or two sizes are timed, in one table."""
    if not found:
        return ""
    head = ["", "N", "D", "", "ours", "p20 – p80", "matrix form", "torch.compile", "memory: ours, matrix, compile"]
    head += ["error of value, gradient: ours", "matrix form"]
    lines = ["## Other operations", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for (problem, N, D, dtype), group in groupby(found, key=lambda row: (row.problem, row.N, row.D, row.dtype)):
        side = {row.contender: row for row in group}
        ours, matrix, compiled = (side.get(name) for name in MAIN)
        line = [f"`{problem}`{'' if PROBLEMS[problem].gradient else ', value'}", f"{N:,}", str(D), SHORT[dtype]]
        line += [seconds_text(ours), spread_text(ours), rival(matrix), rival(compiled)]
        line += [" · ".join(map(memory_text, (ours, matrix, compiled))), error_text(ours), error_text(matrix)]
        lines.append(f"| {' | '.join(line)} |")
    return "\n".join([*lines, *_notes(found)])


def _alone(name: str) -> str:
    return "" if PROBLEMS[name].gradient else "The value alone.\n\n"


def _notes(found: list[Row]) -> list[str]:
    """Why somebody was not timed, or not weighed, once for each reason."""
    reasons: dict[str, list[str]] = {}
    for row in found:
        if row.status != "ok" or row.memory_status not in ("", "ok"):
            status = row.status if row.status != "ok" else f"memory: {row.memory_status}"
            size = f"{row.N:,} × {row.D} {SHORT[row.dtype]}"
            reasons.setdefault(f"{label(row)}, {status}: {row.why}", []).append(size)
    return ["", *(f"- {reason} ({', '.join(sizes)})" for reason, sizes in reasons.items())] if reasons else []


def _density(found: list[Row], machine: list[Row]) -> str:
    """Kernel density in few dimensions beside its roof, on a CPU."""
    chosen = [row for row in found if row.problem in ("kde_entropy", "kde_value") and row.contender == "ours"]
    chosen = [row for row in chosen if row.seconds and row.threads and row.dtype == "float32"]
    size = max((row.N for row in chosen if row.D <= 16), default=0)
    chosen = [row for row in chosen if size == row.N and row.D <= 128]
    best = next((row.rate for row in machine if row.contender == "best float32"), None)
    if not chosen or not best:
        return ""
    lines = [
        "## Kernel density and its roof",
        "",
        "In few dimensions e^t is the work, not products. The roof counts lane operations: N²/2·(e + D) for the value, "
        f"N²/2·(e + 3D) with the gradient and scores that are kept, where e = {EXP} is one e^t by AVX-512 (exp_over in "
        f"csrc/cpu/simd/math.h), at {best / 2e9:,.0f}·10⁹ lane operations a second: half the best rate seen, as a "
        "multiply-add is two flops.",
        "",
        "| | N | D | ours | roof | of roof |",
        "|---|---|---|---|---|---|",
    ]
    for row in chosen:
        roof, seconds = roof_seconds(row.problem, row.N, row.D, best), row.seconds or 0.0
        what = "value" if row.problem == "kde_value" else "value and gradient"
        texts = [f"{row.N:,}", str(row.D), time_text(seconds), time_text(roof), f"{roof / seconds:.2f}"]
        lines.append(f"| {what} | {' | '.join(texts)} |")
    return "\n".join(lines)


def _memory(found: list[Row]) -> str:
    """Ours at the largest sizes on a CPU, beside what the package promises."""
    chosen = [row for row in found if row.contender == "ours" and row.N >= LARGE and row.D >= 128 and row.threads]
    chosen = [row for row in chosen if row.peak_mib and row.dtype == "float32"]
    if not chosen:
        return ""
    lines = [
        "## Memory and its formula",
        "",
        "Promised: gradients of the batches in fp32, 16 vectors of rows and 16 of columns, and the workspace of 64 MiB. "
        "`sup_con` takes one batch: here its two views are joined before, which is a copy of N·D numbers on top.",
        "",
        "| | N | D | measured | promised |",
        "|---|---|---|---|---|",
    ]
    for row in chosen:
        problem = PROBLEMS[row.problem]
        batches = 0 if not problem.gradient else 2 if problem.batches in (pairs, unit_pairs) else 1
        promised = (batches * row.N * row.D + 2 * 16 * row.N) * 4 / 2**20 + 64
        lines.append(f"| `{row.problem}` | {row.N:,} | {row.D} | {memory_text(row)} | {promised:,.0f} MiB |")
    return "\n".join(lines)


def _skipping(found: list[Row]) -> str:
    """Ours with and without skipping: times, the gain, and the distance of value and gradient at full size."""
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
    for row in found:
        gain = f"×{1 / row.ratio:.2f}" if row.ratio else "–"
        off = (row.value_difference, row.gradient_difference)
        difference = "–" if None in off else ", ".join(f"{d:.0e}" for d in off)
        texts = [label(row), seconds_text(row), gain, memory_text(row), difference, error_text(row)]
        lines.append(f"| `{row.problem}` | {row.N:,} | {row.D} | {' | '.join(texts)} |")
    return "\n".join(lines)


def _lost(found: list[Row]) -> str:
    """Every rival that is clearly faster."""
    compared = [row for row in found if row.ratio and row.contender != "ours"]
    faster = [row for row in compared if (row.ratio or 0) < 1 / EVEN]
    lines = ["## Where ours is slower", ""]
    if not faster:
        return "\n".join([*lines, f"Nowhere, by more than {EVEN - 1:.0%}."])
    lines += [
        f"By more than {EVEN - 1:.0%}, {len(faster)} of {len(compared)} comparisons; by anything, "
        f"{sum((row.ratio or 0) < 1 for row in compared)}.",
        "",
        "| | N | D | | who | its time over ours |",
        "|---|---|---|---|---|---|",
    ]
    for row in sorted(faster, key=lambda row: row.ratio or 0):
        texts = [f"{row.N:,}", str(row.D), SHORT[row.dtype], label(row), f"{time_text(row.seconds)}, ×{row.ratio:.2f}"]
        lines.append(f"| `{row.problem}` | {' | '.join(texts)} |")
    return "\n".join(lines)


def _left(left: list[Row]) -> str:
    sizes = ", ".join(f"`{row.problem}` {row.N:,} × {row.D} {SHORT[row.dtype]}" for row in left)
    return f"## Not run\n\nNo time was left for: {sizes}." if left else ""


def seconds_text(row: Row | None) -> str:
    """The median, or why there is none."""
    if row is None:
        return "–"
    return time_text(row.seconds) if row.status == "ok" else row.status


def rival(row: Row | None) -> str:
    """The median and how many times ours it is; bold where it is less."""
    if row is None or row.status != "ok" or row.ratio is None:
        return seconds_text(row)
    ratio = f"×{row.ratio:.2f}" if row.ratio < 10 else f"×{row.ratio:.0f}"
    return f"{time_text(row.seconds)}, " + (f"**{ratio}**" if row.ratio < 1 / EVEN else ratio)


def spread_text(row: Row | None) -> str:
    if row is None or row.p20 is None or row.rounds < 2:
        return "–"
    return f"{time_text(row.p20)} – {time_text(row.p80)}"


def fraction_text(row: Row | None) -> str:
    return "–" if row is None or row.fraction is None else f"{row.fraction:.2f}"


def memory_text(row: Row | None) -> str:
    if row is None:
        return "–"
    if row.peak_mib is None:
        return row.memory_status or "–"
    return f"{row.peak_mib:,.0f} MiB" if row.peak_mib >= 9.95 else f"{row.peak_mib:.1f} MiB"


def error_text(row: Row | None) -> str:
    if row is None or row.value_error is None:
        return "–"
    gradient = "" if row.gradient_error is None else f", {row.gradient_error:.0e}"
    rows = f" at {row.checked_rows:,} rows" if row.checked_rows != row.N else ""
    return f"{row.value_error:.0e}{gradient}{rows}"
