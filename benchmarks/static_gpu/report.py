"""The report: what was counted, what it implies on each device, and how kernels fit onto one."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from .claims import claims
from .contenders import OURS, RIVALS, ROWS
from .devices import DEVICES
from .model import Figure
from .occupancy import Fit

HEAD = f"""# Static cost of the GPU kernels

**Modelled, not measured**: nothing on this page was timed, and no GPU is needed to make it: `python -m benchmarks.static_gpu`, or
`make static-gpu`.

- *Counted* by executing every kernel on the CPU from Triton's intermediate representation, value and gradients by all
  embeddings: at N and 2N rows, in as many parts as at {ROWS:,} rows where a kernel keeps scores or weights. What grows with N²
  and what grows with N give the figures, of {ROWS:,} rows of scores in bf16 (inf-cl turns its inputs to fp32 and multiplies
  in TF32; densities are fp32).
- *products*: tensor-core work over 2·N·M·D flops. *exp*: exponentials; *special*: logarithms, roots and divisions, which share
  their unit. *L2*: bytes that programs load and store; the library's products are taken to read in tiles of 128 × 128. *memory*:
  bytes that a step has to read or write once, which grow with the pairs only where scores or weights are kept. All per pair
  of rows.
- All log-sum-exps lie near each other, as those of random unit vectors do. Then rows and columns share an exponential; where one
  lies further than 22 from another, a sweep for the gradients of two sides takes two, and the sums of a tile with a column far
  below its largest row take another. That is not in the figures.
- *ps*: the least time that this implies, per pair of rows: each kernel takes as long as its busiest resource, of tensor cores,
  special functions, fp32 lanes, L2 and memory, at the vendor's peak (`benchmarks/static_gpu/devices.py`), one after
  the other. What latencies, launches and integer work add is not in it, nor what a compiler repeats; blocks that
  stay in L2 (B200, MI300X) may beat it. It ranks designs; it does not predict a clock.
- *Rivals* are their installed kernels, through their public functions: {", ".join(f"{n} {v}" for n, v in RIVALS.items())}.
  siglip-kernel computes gradients of its temperature and bias too, and so does ours there. Attention is counted by hand, not
  executed: InfoNCE with the keys for values, without traffic.
"""

NOTE = """
After a time: the resource that is busiest for most of it. *special* counts divisions by constants too.
"""


def markdown(figures: list[Figure], compiled: list[Fit]) -> str:
    names = [d.name for d in DEVICES if any(f.device == d.name for f in figures)]
    parts = [HEAD, _claims(figures, compiled), "## Work and modelled time\n", _work(figures, names)]
    parts += ["![modelled time](chart.png)\n", "## Kernels as compiled\n", _kernels(compiled)]
    return "\n".join(parts)


def _claims(figures: list[Figure], compiled: list[Fit]) -> str:
    lines = [f"- {claim}: {verdict}" for claim, verdict in claims(figures, compiled)]
    widths = ", ".join(str(D) for D in sorted({f.D for f in figures if f.work}))
    targets = ", ".join(sorted({k.target for k in compiled})) or "nothing"
    scope = f"Of what stands on this page, and of nothing else: D = {widths}; kernels compiled for {targets}.\n"
    return "\n".join(["## Claims of ours\n", scope, *lines, ""])


def _work(figures: list[Figure], names: list[str]) -> str:
    head = ["loss", "D", "who", "products", "exp", "special", "L2", "memory", "atomics", *(f"{n} ps" for n in names)]
    lines = [_row(head), _row(["---"] * 3 + ["---:"] * (len(head) - 3))]
    for key in dict.fromkeys((f.loss, f.D, f.who) for f in sorted(figures, key=_order)):
        lines.append(_row(_line({f.device: f for f in figures if (f.loss, f.D, f.who) == key}, names)))
    return "\n".join([*lines, NOTE])


def _order(f: Figure) -> tuple:
    losses = ("InfoNCE", "CLIP", "NT-Xent", "SigLIP", "KDE entropy")
    return losses.index(f.loss), f.D, f.who != OURS, f.analytic


def _line(by_device: dict[str, Figure], names: list[str]) -> list[str]:
    first = next(iter(by_device.values()))
    lead = [first.loss, str(first.D), first.who + (" (by hand)" if first.analytic else "")]
    if first.missing:
        return [*lead, first.missing] + [""] * (5 + len(names))
    usual = by_device.get("H100", first)
    s = usual.step
    traffic = ["", ""] if usual.analytic else [f"{s.loaded + s.stored:.1f}", f"{max(0.0, s.memory):.1f}"]
    products = f"{usual.products:.2f} {usual.units}".strip()
    work = [products, f"{s.exponentials:.2f}", f"{max(0.0, s.special):.2f}", *traffic, f"{s.atomics:.2f}"]
    return [*lead, *work, *(_time(by_device.get(n)) for n in names)]


def _time(f: Figure | None) -> str:
    return f"{f.seconds * 1e12:.2f} {f.busiest}" if f and f.work else "not counted"


def _kernels(compiled: list[Fit]) -> str:
    head = [
        "loss",
        "D",
        "who",
        "kernel",
        "target",
        "warps",
        "registers",
        "spilled",
        "shared",
        "programs per SM",
        "atomics",
    ]
    lines = [_row(head), _row(["---"] * 5 + ["---:"] * 6)]
    for k in sorted(compiled, key=lambda k: (k.loss, k.D, k.who, k.kernel, k.target)):
        numbers = [k.warps, k.registers, k.spilled, k.shared, k.programs, k.atomics]
        shown = [k.missing, *[""] * 5] if k.missing else [str(n) for n in numbers]
        lines.append(_row([k.loss, str(k.D), k.who, k.kernel, k.target, *shown]))
    return "\n".join(
        [*lines, "\nspilled, shared: bytes. 0 programs: it does not fit. atomics: instructions in the code.\n"]
    )


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def write_json(figures: list[Figure], compiled: list[Fit], path: Path) -> None:
    shown = [
        {**asdict(f), "work": {name: _rounded(asdict(step)) for name, step in f.work.items()}, "seconds": f.seconds}
        for f in figures
    ]
    content = {"rows": ROWS, "modelled_not_measured": True, "figures": shown, "kernels": [asdict(k) for k in compiled]}
    path.write_text(json.dumps(content, indent=1) + "\n")


def _rounded(step: dict) -> dict:
    """What is left of rounding where work grows with the rows alone is no work."""
    flops = {unit: round(value, 3) for unit, value in step["flops"].items() if round(value, 3)}
    return {"flops": flops, **{k: round(v, 3) for k, v in step.items() if k != "flops" and round(v, 3)}}
