"""`python -m jessl_kernels.entropy z.npy --bandwidth silverman`: the entropy of a file of samples, in nats.

The file's rows stay on the disk until they are used. With --state a run that was interrupted goes on by the same command.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..command import Parser, as_json, run, targets
from ..files import array
from ..literals import KERNELS, OWN_POINT, RULES
from .whole import entropy_of


def _parser() -> Parser:
    parser = Parser(
        prog="python -m jessl_kernels.entropy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("z", help="file.npy or file.npz:name, (N, D) or (N,) floats")
    add("--weights", metavar="FILE", help="file.npy or file.npz:name, (N,) floats >= 0; default: equal ones")
    add("--kernel", choices=KERNELS, default="gaussian", help="default: gaussian")
    add("--bandwidth", metavar="H", help=f"a number, {' or '.join(RULES)}; of all but vmf")
    add("--concentration", type=float, metavar="KAPPA", help="of vmf")
    add("--df", type=float, help="degrees of freedom of student")
    add("--estimator", choices=OWN_POINT, default="loo", help="default: loo, each point left out of its own density")
    add("--device", help="such as cuda; default: cpu")
    add("--state", metavar="FILE", help="where the sums are kept, so that the same command goes on after Ctrl-C")
    add("--out", metavar="FILE", help="the result as JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of `command.run`."""
    return run(_parser(), arguments, _work, _interrupted)


def _work(chosen: argparse.Namespace) -> tuple[object, dict[Path, bytes]]:
    places = targets(chosen, [chosen.z, chosen.weights, chosen.state])
    found = entropy_of(
        array("z", chosen.z),
        bandwidth=_number(chosen.bandwidth),
        concentration=chosen.concentration,
        kernel=chosen.kernel,
        df=chosen.df,
        estimator=chosen.estimator,
        weights=None if chosen.weights is None else array("weights", chosen.weights),
        device=chosen.device,
        state=chosen.state,
    )
    return found, {places["out"]: as_json(found.to_dict())} if "out" in places else {}


def _interrupted(chosen: argparse.Namespace) -> str:
    return f"interrupted; the same command goes on with {chosen.state}" if chosen.state else ""


def _number(text: str | None) -> Any:
    """A bandwidth that is a number, or the word as it is."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


if __name__ == "__main__":
    sys.exit(main())
