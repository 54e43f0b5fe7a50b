"""`python -m jessl_kernels.evaluate z.npy --labels labels.npy --z2 other.npy`: a representation in files, judged.

Row i of all files belongs to item i. The table says what each number is held against.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path

from ..command import Parser, as_json, run, targets
from ..figures import picture
from ..files import array
from .judge import evaluate

DEFAULTS = {name: parameter.default for name, parameter in inspect.signature(evaluate).parameters.items()}
OPTIONS = ("k", "concentration", "bandwidth", "temperature", "queries", "exact", "seed")


def _parser() -> Parser:
    parser = Parser(
        prog="python -m jessl_kernels.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("z", help="file.npy or file.npz:name, (N, D) floats")
    add("--labels", metavar="FILE", help="file.npy or file.npz:name, (N,) integers: accuracy of neighbours")
    add("--z2", metavar="FILE", help="file.npy or file.npz:name, (N, D) floats: alignment, InfoNCE and retrieval")
    add("--k", type=int, default=DEFAULTS["k"], help=f"neighbours that vote; default: {DEFAULTS['k']}")
    add("--concentration", type=float, metavar="KAPPA", help="of vmf_entropy; default: the best of some")
    add("--bandwidth", type=float, metavar="H", help="of gaussian_entropy; default: the best of some")
    add("--temperature", type=float, metavar="TAU", help="of info_nce; default: the best of some")
    add("--queries", type=int, default=DEFAULTS["queries"], help=f"rows, drawn; default: {DEFAULTS['queries']:,}")
    add("--exact", action="store_true", help="all rows are queries")
    add("--seed", type=int, default=DEFAULTS["seed"], help=f"of the draw; default: {DEFAULTS['seed']}")
    add("--out", metavar="FILE", help="the result as JSON")
    add("--plot", metavar="FILE", help="spectrum, entropy, accuracy and recall as a picture; .png, .pdf or .svg")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of `command.run`."""
    return run(_parser(), arguments, _work)


def _work(chosen: argparse.Namespace) -> tuple[object, dict[Path, bytes]]:
    places = targets(chosen, [chosen.z, chosen.labels, chosen.z2])
    files = {name: getattr(chosen, name) for name in ("z", "labels", "z2")}
    arrays = {name: None if file is None else array(name, file) for name, file in files.items()}
    found = evaluate(**arrays, **{name: getattr(chosen, name) for name in OPTIONS})
    contents = {}
    if "out" in places:
        contents[places["out"]] = as_json(found.to_dict())
    if "plot" in places:
        contents[places["plot"]] = picture(found.plot(), Path(chosen.plot).suffix)
    return found, contents


if __name__ == "__main__":
    sys.exit(main())
