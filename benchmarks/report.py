"""The report as Markdown: what was measured on which machine, a summary, a table for each problem, the rows we lose."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from .contenders import label
from .problems import PROBLEMS, pairs, unit_pairs
from .rows import EXP, RECOMPUTED, Peaks, Row, peaks, roof_seconds
from .skipping import skipping
from .store import Store
from .words import error_text, memory_text, seconds_text, time_text

SUMMARY = (8192, 128)
LARGE = 16_384
# Within this the two sides are even: a tenth of medians is what a busy machine moves.
EVEN = 1.1


def markdown(store: Store, found: list[Row], charts: list[Path]) -> str:
    known = peaks(store)
    skipped = [row for row in found if PROBLEMS[row.problem].skips]
    found = [row for row in found if not PROBLEMS[row.problem].skips]
    parts = [
        "# Benchmarks",
        _machine(store, known),
        _how(store, found),
        *_charts(charts),
        *_summary(found),
        *(_problem(name, [row for row in found if row.problem == name]) for name in PROBLEMS),
        _density(found, known),
        _memory(found),
        skipping(skipped),
        _lost(found),
        _left(store),
    ]
    return "\n\n".join(part for part in parts if part)


def _machine(store: Store, known: Peaks) -> str:
    same, machine = store.setting["same"], store.setting
    memory = machine["memory_mib"] / 1024
    return "\n".join(
        [
            f"{same['cpu']}, {same['level']}, {same['threads']} threads; jessl_kernels {same['jessl_kernels']} ({same['simd']}) "
            f"at commit {same['commit']}, torch {same['torch']}, Python {same['python']}; fp32.",
            "",
            "| peak | GFLOP/s |",
            "|---|---|",
            f"| torch's product of 4096³, {same['threads']} threads, median of {known.products} among the runs "
            f"| {known.product / 1e9:,.0f} |",
            f"| the same on 1 thread | {known.one_thread / 1e9:,.0f} |",
            f"| best rate seen from {RECOMPUTED:,} rows on: {known.best_of} | {known.best / 1e9:,.0f} |",
            "",
            _meaning(known),
            "",
            f"A call may take {same['limit']:.0f} s and a process add {memory:.1f} GiB of address space.",
        ]
    )


def _meaning(known: Peaks) -> str:
    if known.best > known.product:
        return (
            "Fractions below are of torch's product, as a user of this machine gets it. It is not the limit of the hardware "
            f"here: our kernels run at up to {known.best / known.product:.2f} of it, so a fraction above 1 says that torch's "
            "matrix library leaves that much unused on this CPU. Up to some thousand rows it may also say that scores were kept: "
            "two-sided and symmetric losses then make them once, and are counted as if twice (`jk.explain` tells). Of the best "
            f"rate seen, from {RECOMPUTED:,} rows on, every fraction is {known.product / known.best:.2f} times what is printed."
        )
    return "Fractions below are of torch's product, the best rate seen here."


def _how(store: Store, found: list[Row]) -> str:
    rounds = [row.rounds for row in found if row.rounds]
    spread = f"{min(rounds)} to {max(rounds)}" if rounds and min(rounds) < max(rounds) else f"{max(rounds, default=0)}"
    return (
        "N is the number of rows of the score matrix: n pairs make N = 2n in `nt_xent`, `dcl`, `sup_con`, N = n elsewhere. "
        "Times are of value and gradient (`kde_value`: value alone), medians of rounds in which all sides run in random order "
        f"({spread} of them: each side fills the same share of the time), 20th to 80th percentile for ours; a call above 3 s "
        "counts once, without a warm-up. Temperature, scale and bias are constants. scikit-learn and scipy compute in fp64, on "
        "one thread. ×r beside a rival is its time over ours. Memory is the growth of a process of its own in one call, inputs "
        "excepted. Errors are against the matrix form in fp64; who is wrong by 1e-4 is not timed. The flops of a fraction are "
        "those that the mathematics needs: "
        + ", ".join(f"`{name}` {problem.products:g}" for name, problem in PROBLEMS.items() if not problem.skips)
        + " products of 2·N²·D; work beyond them counts for nobody."
    )


def _charts(charts: list[Path]) -> Iterable[str]:
    for chart in charts:
        yield f"![{chart.stem}]({chart.name})"


def _summary(found: list[Row]) -> Iterable[str]:
    """The first table to look at: every loss at one size."""
    sizes = sorted({(row.N, row.D) for row in found if SUMMARY[1] == row.D})
    if not sizes:
        return
    N, D = SUMMARY if SUMMARY in sizes else sizes[-1]
    lines = ["| | ours | matrix form | torch.compile | instead | memory: ours, matrix, compile, instead | of peak |"]
    lines.append("|---|---|---|---|---|---|---|")
    for problem, group in groupby([row for row in found if (row.N, row.D) == (N, D)], key=lambda row: row.problem):
        side = {row.contender: row for row in group}
        peers = [row for name, row in side.items() if name not in ("ours", "matrix", "compiled")]
        main = [side.get(name) for name in ("ours", "matrix", "compiled")]
        instead = "<br>".join(f"{label(problem, row.contender)} {rival(row)}" for row in peers) or "–"
        memory = " · ".join(memory_text(row) for row in [*main, *peers] if row)
        lines.append(
            f"| `{problem}` | {seconds_text(side['ours'])} | {rival(main[1])} | {rival(main[2])} | {instead} "
            f"| {memory} | {fraction_text(side['ours'])} |"
        )
    yield f"## All at N = {N:,}, D = {D}"
    yield "\n".join(lines)


def _problem(name: str, found: list[Row]) -> str:
    if not found:
        return ""
    names = list(dict.fromkeys(row.contender for row in found))
    rivals = [n for n in names if n != "ours"]
    head = ["N", "D", "ours", "p20 – p80", "of peak", *(label(name, n) for n in rivals)]
    head += [f"memory: {', '.join(label(name, n) for n in names)}", "error of value, gradient: ours", "matrix form"]
    lines = [f"## `{name}`", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for (N, D), group in groupby(found, key=lambda row: (row.N, row.D)):
        side = {row.contender: row for row in group}
        ours = side.get("ours")
        line = [f"{N:,}", str(D), seconds_text(ours), spread_text(ours), fraction_text(ours)]
        line += [rival(side.get(n)) for n in rivals]
        line.append(" · ".join(memory_text(side.get(n)) for n in names))
        line += [error_text(ours), error_text(side.get("matrix"))]
        lines.append(f"| {' | '.join(line)} |")
    return "\n".join(lines + _notes(name, found))


def _notes(problem: str, found: list[Row]) -> list[str]:
    """Why somebody was not timed, or not weighed, once for each reason."""
    reasons: dict[str, list[str]] = {}
    for row in found:
        troubled = row.status != "ok" or row.memory_status not in ("", "ok")
        if troubled:
            status = row.status if row.status != "ok" else f"memory: {row.memory_status}"
            reasons.setdefault(f"{label(problem, row.contender)}, {status}: {row.why}", []).append(
                f"{row.N:,} × {row.D}"
            )
    return ["", *(f"- {reason} ({', '.join(sizes)})" for reason, sizes in reasons.items())] if reasons else []


def _density(found: list[Row], known: Peaks) -> str:
    """Kernel density in few dimensions beside its roof."""
    chosen = [row for row in found if row.problem.startswith("kde") and row.contender == "ours" and row.seconds]
    size = max((row.N for row in chosen if row.D <= 16), default=0)
    chosen = [row for row in chosen if size == row.N and row.D <= 128]
    if not chosen:
        return ""
    lines = [
        "## Kernel density and its roof",
        "",
        "In few dimensions e^t and differences are the work, not products. The roof counts lane operations: N²/2·(e + 2D) "
        "for the value, N²/2·(2e + 8D + 4) with the gradient, e being one e^t; at "
        f"{known.lanes / 1e9:,.0f}·10⁹ lane operations per second (half the best rate seen, a multiply-add being two "
        f"flops) and e = {EXP}, the instructions of exp_over in csrc/cpu/simd/math.h with AVX-512. With D in the hundreds "
        "products are the work, and the fraction of peak above says more.",
        "",
        "| | N | D | ours | roof | of roof | lane operations a pair: ours | roof |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in chosen:
        roof = roof_seconds(row.problem, row.N, row.D, known)
        seconds, each = row.seconds or 0.0, known.lanes / (row.N**2 / 2)
        what = "value" if row.problem == "kde_value" else "value and gradient"
        lines.append(
            f"| {what} | {row.N:,} | {row.D} | {time_text(seconds)} | {time_text(roof)} | {roof / seconds:.2f} "
            f"| {seconds * each:.0f} | {roof * each:.0f} |"
        )
    return "\n".join(lines)


def _memory(found: list[Row]) -> str:
    """Ours at the largest sizes, beside what docs/cpu.md promises."""
    chosen = [row for row in found if row.contender == "ours" and row.N >= LARGE and row.D >= 128 and row.peak_mib]
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


def _lost(found: list[Row]) -> str:
    """Every rival that is clearly faster."""
    faster = [row for row in found if row.ratio and row.contender != "ours" and row.ratio < 1 / EVEN]
    lines = ["## Where ours is slower", ""]
    if not faster:
        return "\n".join([*lines, f"Nowhere, by more than {EVEN - 1:.0%}."])
    compared = [row.ratio for row in found if row.ratio and row.contender != "ours"]
    lines += [
        f"By more than {EVEN - 1:.0%}, {len(faster)} of {len(compared)} comparisons; by anything, "
        f"{sum(ratio < 1 for ratio in compared)}.",
        "",
        "| | N | D | who | its time over ours |",
        "|---|---|---|---|---|",
    ]
    for row in sorted(faster, key=lambda row: row.ratio or 0):
        who = label(row.problem, row.contender)
        lines.append(f"| `{row.problem}` | {row.N:,} | {row.D} | {who} | {time_text(row.seconds)}, ×{row.ratio:.2f} |")
    return "\n".join(lines)


def _left(store: Store) -> str:
    return f"## Not run\n\nNo time was left for: {', '.join(store.left)}." if store.left else ""


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
