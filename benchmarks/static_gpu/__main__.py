"""`python -m benchmarks.static_gpu`: what the Triton kernels cost on GPUs that are not here, beside those of installed rivals.

Writes report.md, report.json and chart.png to --out. Work is counted by executing every kernel on the CPU, registers and shared
memory by compiling it for each GPU, and time is modelled from both; nothing is measured. Many minutes; --quick
takes one D and one GPU.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from .chart import draw
from .contenders import Contender, ours, rivals
from .devices import DEVICES
from .model import Figure, analytic, figure
from .occupancy import Fit, fits
from .report import markdown, write_json

OUT = Path("docs/benchmarks/static_gpu")
LOSSES = ("InfoNCE", "CLIP", "NT-Xent", "SigLIP")
WIDTHS = (128, 256, 512)
DENSITIES = (2, 16)


def contenders(widths: tuple[int, ...]) -> list[Contender]:
    found = [c for loss in LOSSES for D in widths for c in (ours(loss, D), *rivals(loss, D))]
    return found + [ours("KDE entropy", D) for D in DENSITIES]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.static_gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, help=f"folder of the report (default {OUT}; with --quick runs/static_gpu)")
    parser.add_argument("--quick", action="store_true", help="D = 128 on H100 alone")
    chosen = parser.parse_args(arguments)
    out = chosen.out or (Path("runs/static_gpu") if chosen.quick else OUT)
    devices = [d for d in DEVICES if d.name == "H100"] if chosen.quick else DEVICES
    widths = WIDTHS[:1] if chosen.quick else WIDTHS
    console = Console(stderr=True)

    figures: list[Figure] = []
    known: dict = {}
    for contender in contenders(widths):
        console.print(f"counting {contender.loss}, D = {contender.D}: {contender.who}", markup=False)
        figures += [figure(contender, device, known) for device in devices]
    figures += [f for D in widths for device in devices for f in analytic(device, D)]

    compiled: list[Fit] = []
    write(figures, compiled, out)
    targets = {device.target: device for device in reversed(devices)}  # H200 is an H100 to the compiler
    for contender in contenders(widths):
        console.print(f"compiling {contender.loss}, D = {contender.D}: {contender.who}", markup=False)
        compiled += [found for device in reversed(targets.values()) for found in fits(contender, device)]
        write(figures, compiled, out)
    console.print(f"report: {out / 'report.md'}", markup=False)
    return 0


def write(figures: list[Figure], compiled: list[Fit], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_json(figures, compiled, out / "report.json")
    draw(figures, out / "chart.png")
    (out / "report.md").write_text(markdown(figures, compiled))


if __name__ == "__main__":
    sys.exit(main())
