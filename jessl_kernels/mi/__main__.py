"""`python -m jessl_kernels.mi x.npy y.npy`: a bound on the mutual information of two files of samples, in nats.

Row i of both files is a pair. The critic is trained on most of the pairs, and the bound is read off pairs that it has never seen.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch

from ..literals import BOUND_NAMES, CRITIC_NAMES
from .estimate import estimate
from .files import arrays, target, write
from .neighbours import ksg
from .result import Estimate
from .samples import table

PICTURES = (".png", ".pdf", ".svg")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, without the usage."""
        self.exit(2, f"{self.prog}: {message}\n")


def _parser() -> _Parser:
    parser = _Parser(
        prog="python -m jessl_kernels.mi", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("x", help="file.npy or file.npz:name, (N, D) or (N,) floats; alone: an .npz with arrays x and y")
    add("y", nargs="?", help="file.npy or file.npz:name, (N, D) or (N,) floats")
    add("--bound", choices=(*BOUND_NAMES, "ksg"), default="info_nce", help="default: info_nce; ksg: no bound, but an estimate "
        "by nearest neighbours, which trains nothing")  # fmt: skip
    add("--critic", choices=CRITIC_NAMES, help="default: separable; of club: its own model")
    add(
        "--batch-size",
        type=int,
        default=256,
        metavar="K",
        help="pairs of a mini-batch and of a block of the bound: %(default)s",
    )
    add("--held-out", type=float, default=0.2, metavar="SHARE", help="of the pairs, which give the value: %(default)s")
    add(
        "--learning-rate",
        type=float,
        metavar="RATE",
        help="of Adam; default: 1e-2 for inner_product and bilinear, 5e-4 for others",
    )
    add("--max-steps", type=int, default=5000, metavar="STEPS", help="at most: %(default)s")
    add(
        "--patience",
        type=int,
        default=10,
        metavar="N",
        help="evaluations without a better loss, then it stops: %(default)s",
    )
    add("--k", type=int, default=3, help="neighbours of ksg: %(default)s")
    add("--seed", type=int, default=0, help="default: %(default)s")
    add("--device", default="cpu", help="such as cuda; default: %(default)s")
    add("--out", metavar="FILE", help="the result as JSON")
    add("--plot", metavar="FILE", help="training, value and cap as a picture; .png, .pdf or .svg")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 1 if the training came apart; 2, before any work, for an argument that cannot be."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    try:
        targets = _targets(chosen)
        x, y = arrays(chosen.x, chosen.y)
        if chosen.bound == "ksg":
            found, result = _neighbours(x, y, chosen.k)
        else:
            found = _estimate(x, y, chosen)
            result = found.to_dict()
    except (ValueError, TypeError, ImportError) as wrong:
        parser.error(str(wrong))
    except RuntimeError as diverged:
        print(f"{parser.prog}: {diverged}", file=sys.stderr)
        return 1
    print(found)
    contents = {}
    if "out" in targets:
        contents[targets["out"]] = (json.dumps(result, indent=1, allow_nan=False) + "\n").encode()
    if "plot" in targets and isinstance(found, Estimate):
        contents[targets["plot"]] = _picture(found, targets["plot"])
    write(contents)
    return 0


def _targets(chosen: argparse.Namespace) -> dict[str, Path]:
    """Where results go, checked before the training."""
    taken = [file.rpartition(":")[0] if ".npz:" in file else file for file in (chosen.x, chosen.y) if file]
    found = {}
    for name in ("out", "plot"):
        path = getattr(chosen, name)
        if path is not None:
            found[name] = target(f"--{name}", path, taken)
            taken.append(path)
    if "plot" in found:
        from . import plot  # noqa: F401  # names matplotlib where it is missing

        if chosen.bound == "ksg":
            raise ValueError("--plot is given with --bound ksg, which has no training to show")
        if found["plot"].suffix not in PICTURES:
            raise ValueError(f"--plot is {chosen.plot}, must end in one of {', '.join(PICTURES)}")
    return found


def _estimate(x: Any, y: Any, chosen: argparse.Namespace) -> Estimate:
    named = ("bound", "critic", "batch_size", "held_out", "learning_rate", "max_steps", "patience", "seed", "device")
    return estimate(x, y, **{name: getattr(chosen, name) for name in named})


def _neighbours(x: Any, y: Any, k: int) -> tuple[str, dict[str, Any]]:
    x, y = (table("ksg", name, z).to(torch.float64) for name, z in (("x", x), ("y", y)))
    value = float(ksg(x, y, k=k))
    result = {"bound": "ksg", "value": value, "k": k, "pairs": len(x)}
    return f"ksg, an estimate by {k} neighbours: {value:.3f} nats, of {len(x)} pairs", result


def _picture(found: Estimate, file: Path) -> bytes:
    buffer = io.BytesIO()
    found.plot().savefig(buffer, format=file.suffix[1:], dpi=130)
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
