"""The chart: modelled time per pair of rows, a panel for each device, a bar for each who computes a loss."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from benchmarks.charts import STYLE

from .contenders import OURS
from .model import Figure

COLORS = {
    OURS: "#1f5fa8",
    "inf-cl": "#d9822b",
    "memeff": "#8c5aa8",
    "siglip-kernel": "#4d9a6a",
    "scaled_dot_product_attention": "#999999",
    "flex_attention": "#cccccc",
}
LOSSES = ("InfoNCE", "CLIP", "NT-Xent", "SigLIP")


def draw(figures: list[Figure], path: Path) -> None:
    shown = [f for f in figures if f.work and f.loss in LOSSES]
    devices = list(dict.fromkeys(f.device for f in shown))
    groups = [(loss, D) for loss in LOSSES for D in sorted({f.D for f in shown if f.loss == loss})]
    with plt.rc_context(STYLE):
        plot, axes = plt.subplots(len(devices), 1, figsize=(12, 2.4 * len(devices) + 0.8), sharex=True, squeeze=False)
        for axis, device in zip(axes[:, 0], devices, strict=True):
            for at, (loss, D) in enumerate(groups):
                here = [f for f in shown if (f.loss, f.D, f.device) == (loss, D, device)]
                for k, f in enumerate(sorted(here, key=lambda f: list(COLORS).index(f.who))):
                    place = at + (k - (len(here) - 1) / 2) * 0.2
                    axis.bar(place, f.seconds * 1e12, 0.18, color=COLORS[f.who], hatch="///" if f.analytic else None,
                             edgecolor="white")  # fmt: skip
                    axis.text(
                        place,
                        f.seconds * 1e12,
                        f"{float(f'{f.seconds * 1e12:.2g}'):g}",
                        ha="center",
                        va="bottom",
                        fontsize=7,
                    )
            axis.set_title(device)
            axis.set_yscale("log")
            axis.set_ylabel("ps per pair")
            axis.margins(y=0.2)
        axes[-1, 0].set_xticks(range(len(groups)), [f"{loss}\nD = {D}" for loss, D in groups])
        handles = [
            plt.Rectangle((0, 0), 1, 1, color=c) for who, c in COLORS.items() if any(f.who == who for f in shown)
        ]
        labels = [
            who + (" (by hand)" if "attention" in who else "") for who in COLORS if any(f.who == who for f in shown)
        ]
        inch = 1 / plot.get_figheight()
        plot.suptitle("Modelled, not measured: least time of value and gradients, per pair of rows", x=0.02, ha="left")
        plot.legend(handles, labels, loc="lower center", ncols=len(handles), fontsize=8)
        plot.tight_layout(rect=(0, 0.3 * inch, 1, 1 - 0.05 * inch))
        plot.savefig(path)
        plt.close(plot)
