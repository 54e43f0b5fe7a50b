"""`python -m jessl_kernels.mi x.npy y.npy`: a bound on the mutual information of two files of samples, in nats.

Row i of both files is a pair. The critic is trained on most of the pairs, and the bound is read off pairs that it has never seen.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..arrays import table
from ..command import Parser, as_json, run, targets
from ..figures import picture
from ..files import array
from ..literals import BOUND_NAMES, CRITIC_NAMES
from .estimate import estimate
from .neighbours import ksg
from .result import Estimate
from .samples import columns_of

DEFAULTS: dict[str, Any] = {**(estimate.__kwdefaults__ or {}), **(ksg.__kwdefaults__ or {})}
# Options that ksg does not take. The parser's default is None for them and for --k, so that a given one is known.
OF_BOUNDS = ("critic", "batch_size", "held_out", "learning_rate", "max_steps", "patience", "seed", "device")


def _parser() -> Parser:
    parser = Parser(
        prog="python -m jessl_kernels.mi", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("x", help="file.npy or file.npz:name, (N, D) or (N,) floats; alone: an .npz with arrays x and y")
    add("y", nargs="?", help="file.npy or file.npz:name, (N, D) or (N,) floats")
    add("--bound", choices=(*BOUND_NAMES, "ksg"), default="info_nce", help="default: info_nce; ksg: no bound, but an estimate "
        "by nearest neighbours of standardised columns, which trains nothing")  # fmt: skip
    add("--critic", choices=CRITIC_NAMES, help="default: separable; of club: its own model")
    add(
        "--batch-size",
        type=int,
        metavar="K",
        help=f"pairs of a mini-batch and of a block of the bound, at most a tenth of all; default: {DEFAULTS['batch_size']}",
    )
    add(
        "--held-out",
        type=float,
        metavar="SHARE",
        help=f"of the pairs, which give the value; default: {DEFAULTS['held_out']}",
    )
    add(
        "--learning-rate",
        type=float,
        metavar="RATE",
        help="of Adam; default: 1e-2 for inner_product and bilinear, 5e-4 for others",
    )
    add("--max-steps", type=int, metavar="STEPS", help=f"at most; default: {DEFAULTS['max_steps']}")
    add(
        "--patience",
        type=int,
        metavar="N",
        help=f"evaluations without a better loss, then it stops; default: {DEFAULTS['patience']}",
    )
    add("--k", type=int, help=f"neighbours of ksg; default: {DEFAULTS['k']}")
    add("--seed", type=int, help=f"default: {DEFAULTS['seed']}")
    add("--device", help="such as cuda; default: cpu")
    add("--out", metavar="FILE", help="the result as JSON")
    add("--plot", metavar="FILE", help="training, value and cap as a picture; .png, .pdf or .svg")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of `command.run`."""
    return run(_parser(), arguments, _work)


def _work(chosen: argparse.Namespace) -> tuple[object, dict[Path, bytes]]:
    _fitting(chosen)
    places = targets(chosen, [chosen.x, chosen.y])
    x, y = _arrays(chosen.x, chosen.y)
    if chosen.bound == "ksg":
        found, result = _neighbours(x, y, DEFAULTS["k"] if chosen.k is None else chosen.k)
    else:
        found = _estimate(x, y, chosen)
        result = found.to_dict()
    contents = {}
    if "out" in places:
        contents[places["out"]] = as_json(result)
    if "plot" in places and isinstance(found, Estimate):
        contents[places["plot"]] = picture(found.plot(), Path(chosen.plot).suffix)
    return found, contents


def _fitting(chosen: argparse.Namespace) -> None:
    """Options must be of the bound that is asked for."""
    if chosen.bound != "ksg":
        if chosen.k is not None:
            raise ValueError(f"--k is given with --bound {chosen.bound}, must be left out: it is of ksg")
        return
    for name in OF_BOUNDS:
        if getattr(chosen, name) is not None:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} is given with --bound ksg, must be left out: it is of bounds with a critic")
    if chosen.plot is not None:
        raise ValueError("--plot is given with --bound ksg, which has no training to show")


def _arrays(x: str, y: str | None) -> tuple[Any, Any]:
    """The arrays of two files; with y None, x is an .npz of arrays x and y."""
    if y is not None:
        return array("x", x), array("y", y)
    if not x.endswith(".npz"):
        raise ValueError(f"y is missing: it may be left out only if x is an .npz file of arrays x and y, and x is {x}")
    return array("x", f"{x}:x"), array("y", f"{x}:y")


def _estimate(x: Any, y: Any, chosen: argparse.Namespace) -> Estimate:
    given = {name: getattr(chosen, name) for name in OF_BOUNDS if getattr(chosen, name) is not None}
    return estimate(x, y, chosen.bound, **given)


def _neighbours(x: Any, y: Any, k: int) -> tuple[str, dict[str, Any]]:
    tables = [(name, table("ksg", name, z)) for name, z in (("x", x), ("y", y))]
    x, y = (columns_of("ksg", name, z).standardised(z) for name, z in tables)
    value = float(ksg(x, y, k=k))
    _, pairs, copies = torch.cat([x, y], dim=1).unique(dim=0, return_inverse=True, return_counts=True)
    tied = float((copies[pairs] > k).double().mean())
    note = f"{tied:.0%} of the pairs coincide with {k} others, where it reads far too high" if tied else ""
    result = {"bound": "ksg", "value": value, "note": note, "k": k, "pairs": len(x)}
    found = f"ksg, an estimate by {k} neighbours: {value:.3f} nats, of {len(x)} pairs"
    return found + (f"\n  {note}" if note else ""), result


if __name__ == "__main__":
    sys.exit(main())
