"""Loads the compiled extensions, or says why one is absent: the core for CPU tensors, and the CUDA kernels.

The package works without them. `setup.py` leaves a record of each build; this module loads the extension, or turns that record
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

_PACKAGE = Path(__file__).resolve().parent
_RECORDS = _PACKAGE  # the folder of _native_status.json and _cuda_status.json


@dataclass(frozen=True)
class NativeStatus:
    """The state of an extension.

    available  True if the extension is loaded
    reason     why it is not, as a sentence without a capital or a full stop; "" if it is
    info       the build: compiler, and the SIMD levels that this processor can run, or the GPUs; {} if not loaded
    """

    available: bool
    reason: str = ""
    info: dict[str, str] = field(default_factory=dict)


@cache
def native_status() -> NativeStatus:
    """Load the C++ core once and return its status. Never raises.

    >>> native_status().available or native_status().reason != ""
    True
    """
    return _status("_native")


@cache
def cuda_status() -> NativeStatus:
    """Load the CUDA kernels once and return their status. Never raises, and needs neither a GPU nor a driver.

    >>> cuda_status().available or cuda_status().reason != ""
    True
    """
    return _status("_cuda")


def native() -> Any:
    """The loaded core. Call it only if `native_status` says that it is available."""
    return importlib.import_module("jessl_kernels._native")


def cuda() -> Any:
    """The loaded CUDA kernels. Call it only if `cuda_status` says that they are available."""
    return importlib.import_module("jessl_kernels._cuda")


def _status(name: str) -> NativeStatus:
    module = f"jessl_kernels.{name}"
    try:
        return NativeStatus(available=True, info=importlib.import_module(module).build_info())
    except ModuleNotFoundError as missing:
        if missing.name == module:
            return NativeStatus(available=False, reason=_why_absent(f"{name}_status.json"))
        return NativeStatus(available=False, reason=f"the extension does not load: {missing}")
    except Exception as failure:  # a library for another Python, C++ runtime or architecture fails in many ways
        return NativeStatus(available=False, reason=f"the extension does not load: {failure}")


def _installed_elsewhere(record: str) -> Path | None:
    """An installed package with a record of its build, which comes later on the path than this one."""
    folders = (Path(entry).resolve() / _PACKAGE.name for entry in sys.path)
    return next((folder for folder in folders if folder != _PACKAGE and (folder / record).exists()), None)


def _why_absent(file_of_record: str) -> str:
    """The reason that setup.py recorded for an absent extension."""
    try:
        record = json.loads((_RECORDS / file_of_record).read_text(encoding="utf-8"))
        built, reason, file = record["built"], record["reason"], record["file"]
    except FileNotFoundError:
        if elsewhere := _installed_elsewhere(file_of_record):
            return f"this is the source folder, which hides the package installed at {elsewhere}: start Python in another folder"
        return "the extension was never built here (pip install .)"
    except (OSError, ValueError, KeyError, TypeError) as failure:
        return f"the extension is missing, and {file_of_record} cannot be read: {failure!r}"
    if built:
        return f"the extension was built as {file}, which this Python does not load or which was removed"
    return str(reason)
