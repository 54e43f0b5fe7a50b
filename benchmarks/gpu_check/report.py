"""report.json, and the same for readers: report.md."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

DRY = "DRY RUN: nothing here ran on a GPU"
Section = dict[str, Any]


def write(out: Path, dry: bool, sections: dict[str, Section]) -> None:
    label = DRY if dry else "measured on the GPU named under environment"
    if not dry and not any(step["name"] == "device" for step in sections["environment"]["steps"]):
        label = "no GPU answered: nothing was measured"
    found = {"label": label, "dry": dry, "sections": sections}
    if dry:
        found["not_run_in_dry_mode"] = absent()
    (out / "report.json").write_text(json.dumps(found, indent=1) + "\n")
    (out / "report.md").write_text(markdown(found) + "\n")


def absent() -> list[str]:
    return [
        "the suite, but for four tests; compute-sanitizer",
        "times (CUDA events), peak memory, fractions of the library's rate",
        "CUDA graphs: a replay calls again",
        "torch.compile: Dynamo does not trace through what makes tensors pretend",
        "streams, waiting for the device, autograd's own threads, a second GPU",
    ]


def markdown(found: dict[str, Any]) -> str:
    sections = found["sections"]
    parts = ["# GPU check", f"**{found['label']}.**", _verdicts(sections)]
    parts += [_absent(found), _environment(sections.get("environment")), _suite(sections.get("suite"))]
    parts += [_failures(sections), _behaviour(sections.get("behaviour")), *_timing(sections.get("timing"))]
    return "\n\n".join(part for part in parts if part)


def _verdicts(sections: dict[str, Section]) -> str:
    lines = ["| section | | seconds | steps |", "|---|---|---|---|"]
    for name, section in sections.items():
        statuses = [step["status"] for step in section["steps"]]
        counts = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
        lines.append(f"| {name} | {section['status']} | {section.get('seconds', 0):.0f} | {counts} |")
    return "\n".join(lines)


def _absent(found: dict[str, Any]) -> str:
    return (
        "\n".join(["Not run in dry mode:", "", *(f"- {what}" for what in found.get("not_run_in_dry_mode", []))])
        * found["dry"]
    )


def _environment(section: Section | None) -> str:
    if section is None or not section["steps"]:
        return ""
    facts: dict[str, Any] = {}
    for step in section["steps"]:
        facts.update({k: v for k, v in step.items() if k not in ("name", "took", "status", "traceback", "says")})
    lines = [f"- {name}: {', '.join(map(str, v)) if isinstance(v, list) else v}" for name, v in facts.items()]
    return "\n".join(["## Environment", "", *lines])


def _suite(section: Section | None) -> str:
    step = next(iter(section["steps"]), None) if section else None
    if step is None or "selected" not in step:
        return ""
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(step["outcomes"].items()))
    lines = [
        "## Suite",
        "",
        f"{step['status']}: {step['ran']} of {step['selected']} tests ran, on {step['on']}: {outcomes}.",
    ]
    lines += [f"- {problem}" for problem in step["problems"]]
    lines += [f"- skipped {count} × {why}" for why, count in step["skips"].items()]
    return "\n".join(lines)


def _failures(sections: dict[str, Section]) -> str:
    lines = []
    for name, section in sections.items():
        if section.get("why"):
            lines.append(f"- **{name}**: {_inline(section['why'])}")
        for step in section["steps"]:
            if step["status"] in ("failed", "not finished"):
                lines.append(f"- **{name}, {step['name']}**, {step['status']}: {_inline(step.get('why', ''))}")
            for failure in step.get("failures", []):
                lines.append(f"- `{failure['test']}`\n\n" + _quoted(failure["why"]))
    return "\n".join(["## Failures", "", *lines]) if lines else ""


def _inline(text: str) -> str:
    return " ".join(text.split())[:400]


def _quoted(text: str) -> str:
    return "\n".join(["  ```", *(f"  {line}" for line in text.splitlines()), "  ```"])


def _behaviour(section: Section | None) -> str:
    if section is None or not section["steps"]:
        return ""
    lines = ["## Behaviour", "", "| | |", "|---|---|"]
    for step in section["steps"]:
        why = f": {_inline(step['why'])}" if step.get("why") else ""
        lines.append(f"| {step['name']} | {step['status']}{why} |")
    return "\n".join(lines)


def _timing(section: Section | None) -> Iterable[str]:
    if section is None or not section["steps"]:
        return
    peaks = {s["name"]: s.get("flops_per_second") for s in section["steps"] if s["name"].startswith("peak ")}
    yield "\n".join(
        [
            "## Times",
            "",
            "Value and gradient, medians of rounds in which all run in turn. A fraction is of the library's own product under "
            "the same clocks, on the flops that the mathematics needs; errors are against fp64 at no more than 4,096 rows.",
            "",
            *(
                f"- {name}: {'not measured' if rate is None else f'{rate / 1e12:,.0f} TFLOP/s'}"
                for name, rate in peaks.items()
            ),
        ]
    )
    cells = [step for step in section["steps"] if "rows" in step]
    for problem, group in groupby(sorted(cells, key=lambda cell: cell["problem"]), key=lambda cell: cell["problem"]):
        yield _problem(problem, list(group))
    left = [step["name"] for step in section["steps"] if step["status"] == "not reached"]
    if left:
        yield f"Not reached in the time given, {len(left)} sizes: {', '.join(left)}."


def _problem(problem: str, cells: list[dict[str, Any]]) -> str:
    lines = [
        f"### `{problem}`",
        "",
        "| N | D | | who | time | p20 – p80 | over ours | of peak | memory | error: value, gradient |",
    ]
    lines.append("|" + "---|" * 10)
    for cell in sorted(cells, key=lambda cell: (cell["dtype"], cell["N"], cell["D"])):
        ours = next(row for row in cell["rows"] if row["contender"] == "ours")
        for row in cell["rows"]:
            if row["status"] == "left out":
                continue
            size = [f"{cell['N']:,}", str(cell["D"]), cell["dtype"]] if row is ours else ["", "", ""]
            lines.append(f"| {' | '.join([*size, *_cells(row, ours)])} |")
    return "\n".join(lines)


def _cells(row: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    if row["status"] != "ok":
        return [row["label"], f"{row['status']}: {_inline(row['why'])[:120]}", "", "", "", "", _errors(row)]
    seconds, peak = row.get("seconds"), row.get("peak_bytes")
    timed = seconds is not None
    ratio = f"×{seconds / ours['seconds']:.2f}" if timed and ours.get("seconds") else "–"
    spread = f"{_time(row['p20'])} – {_time(row['p80'])}" if timed else "–"
    fraction = "–" if row.get("fraction") is None else f"{row['fraction']:.2f}"
    memory = "–" if peak is None else f"{peak / 2**20:,.0f} MiB"
    return [row["label"], _time(seconds) if timed else "not measured", spread, ratio, fraction, memory, _errors(row)]


def _errors(row: dict[str, Any]) -> str:
    found = [row.get(name) for name in ("value_error", "gradient_error")]
    return ", ".join("–" if error is None else f"{error:.0e}" for error in found)


def _time(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"
