"""The frame of the package's commands: one line for a bad argument, targets checked before any work, results written whole.

A command exits with 0; with 1 if the work failed or the result could not be written or printed; with 2, before any work, for an
argument that cannot be; with 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .figures import PICTURES, new_figure
from .files import target, write

Contents = Mapping[Path, bytes]


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and whose options are written out."""

    def __init__(self, **options: Any):
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """One line, without the usage."""
        self.exit(2, f"{self.prog}: {message}\n")


def run(
    parser: Parser,
    arguments: Sequence[str] | None,
    work: Callable[[argparse.Namespace], tuple[object, Contents]],
    interrupted: Callable[[argparse.Namespace], str] = lambda chosen: "",
) -> int:
    """The command's exit code. `work` returns the result to print, and the contents of files to write before.

    interrupted  a line for the user after Ctrl-C, or ""
    """
    chosen = None
    try:
        chosen = parser.parse_args(arguments)
        try:
            found, contents = work(chosen)
        except (ValueError, TypeError, ImportError) as wrong:
            parser.error(str(wrong))
        except RuntimeError as failed:
            print(f"{parser.prog}: {failed}", file=sys.stderr)
            return 1
        return _delivered(parser.prog, found, contents)
    except KeyboardInterrupt:
        if chosen is not None and (line := interrupted(chosen)):
            print(f"{parser.prog}: {line}", file=sys.stderr)
        return 130


def _delivered(prog: str, found: object, contents: Contents) -> int:
    status = 0
    try:
        write(contents)
    except OSError as error:
        print(f"{prog}: the result is not written: {error.strerror or error}", file=sys.stderr)
        status = 1
    # After the files: nobody may be left to read it.
    try:
        print(found, flush=True)
    except OSError as error:
        print(f"{prog}: the result is not printed: {error.strerror or error}", file=sys.stderr)
        # Python would flush stdout again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def targets(chosen: argparse.Namespace, inputs: Sequence[str | None]) -> dict[str, Path]:
    """Where --out and --plot go, checked before the work; inputs: files that must not be overwritten."""
    taken = [file.rpartition(":")[0] if ".npz:" in file else file for file in inputs if file]
    found = {}
    for name in ("out", "plot"):
        path = getattr(chosen, name, None)
        if path is not None:
            found[name] = target(f"--{name}", path, taken)
            taken.append(path)
    if "plot" in found:
        new_figure(1, 1)  # names matplotlib where it is missing
        if Path(chosen.plot).suffix not in PICTURES:
            raise ValueError(f"--plot is {chosen.plot}, must end in one of {', '.join(PICTURES)}")
    return found


def as_json(result: Mapping[str, Any]) -> bytes:
    """A result as the text of a file."""
    return (json.dumps(result, indent=1, allow_nan=False) + "\n").encode()
