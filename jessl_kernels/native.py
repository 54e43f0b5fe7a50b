"""Loads the compiled core, or says why it is absent.

The package works without it. `setup.py` leaves a record of its build; this module loads the extension, or turns that record
into the sentence that `jk.backends()` prints.
"""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

_MODULE = "jessl_kernels._native"
_RECORD = Path(__file__).with_name("_native_status.json")


@dataclass(frozen=True)
class NativeStatus:
    """The state of the extension.

    available  True if the extension is loaded
    reason     why it is not, as a sentence without a capital or a full stop; "" if it is
    info       the build, and what this processor can run (compiler, SIMD levels, CUDA); {} if not loaded
    """

    available: bool
    reason: str = ""
    info: dict[str, str] = field(default_factory=dict)


@cache
def native_status() -> NativeStatus:
    """Load the extension once and return its status. Never raises.

    >>> native_status().available or native_status().reason != ""
    True
    """
    try:
        return NativeStatus(available=True, info=importlib.import_module(_MODULE).build_info())
    except ModuleNotFoundError as missing:
        if missing.name == _MODULE:
            return NativeStatus(available=False, reason=_why_absent())
        return NativeStatus(available=False, reason=f"the extension does not load: {missing}")
    except Exception as failure:  # a library for another Python, C++ runtime or architecture fails in many ways
        return NativeStatus(available=False, reason=f"the extension does not load: {failure}")


def native() -> Any:
    """The loaded extension. Call it only if `native_status` says that it is available."""
    return importlib.import_module(_MODULE)


def _installed_elsewhere() -> Path | None:
    """An installed package with a record of its build, which comes later on the path than this one."""
    here = Path(__file__).resolve().parent
    folders = (Path(entry).resolve() / here.name for entry in sys.path)
    return next((folder for folder in folders if folder != here and (folder / _RECORD.name).exists()), None)


def _why_absent() -> str:
    """The reason that setup.py recorded for an absent extension."""
    try:
        record = json.loads(_RECORD.read_text(encoding="utf-8"))
        built, reason, file = record["built"], record["reason"], record["file"]
    except FileNotFoundError:
        if elsewhere := _installed_elsewhere():
            return f"this is the source folder, which hides the package installed at {elsewhere}: start Python in another folder"
        return "the extension was never built here (pip install .)"
    except (OSError, ValueError, KeyError, TypeError) as failure:
        return f"the extension is missing, and {_RECORD.name} cannot be read: {failure!r}"
    if built:
        return f"the extension was built as {file}, which this Python does not load or which was removed"
    return str(reason)
