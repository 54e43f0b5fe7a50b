"""Tile shapes by timing instead of by the table, with JESSL_AUTOTUNE=1.

The table of `shapes.py` was made by reading compiled code. This module times the shapes around it on the present device, once
for each kernel, dtype and padded dimension, on the first problem that is large enough to tell them apart. It keeps its choices
in a file for later processes. The order of sums, and so the last bits of a result, depends on the shape.
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import triton
import triton.testing
from triton.runtime.errors import OutOfResources

from ..problem.score import Score
from . import shapes
from .shapes import Shape

ENABLED = os.environ.get("JESSL_AUTOTUNE") == "1"
FEWEST = 2048  # rows, and columns: below, a launch costs as much as a better shape saves
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jessl_kernels" / "shapes.json"


def chosen(kernel: str, score: Score, run: Callable[[Shape], object], tilts: int = 1) -> Shape:
    """The shape for a kernel, by its name in `shapes.of`; `run` launches it on this problem with the shape it is given."""
    table = shapes.of(kernel, score, tilts)
    if not ENABLED or tilts > 1:
        return table
    name = _name(kernel, score)
    if name not in _known():
        if min(score.N, score.M) < FEWEST or torch.cuda.is_current_stream_capturing():
            return table
        _known()[name] = _fastest([table, *(s for s in shapes.around(kernel, score) if s != table)], run)
        _keep()
    return _known()[name]


def _name(kernel: str, score: Score) -> str:
    """The kernel, device and problem that a choice holds for."""
    device = torch.cuda.get_device_name(score.x.device)
    sides = " symmetric" if score.symmetric else ""
    dtype = "tf32" if shapes.tf32(score.x.dtype) else str(score.x.dtype).removeprefix("torch.")
    return f"{device}, Triton {triton.__version__}: {kernel}{sides} {score.kind} {dtype} D{shapes.padded(score.D)}"


def _fastest(candidates: list[Shape], run: Callable[[Shape], object]) -> Shape:
    """The fastest by median time. The first is the table's, which fits; some others may not fit."""
    times: dict[Shape, float] = {}
    for shape in candidates:
        try:
            times[shape] = float(triton.testing.do_bench(functools.partial(run, shape), return_mode="median"))  # pyright: ignore[reportArgumentType]
        except OutOfResources:
            continue
    return min(times, key=times.__getitem__)


@functools.cache
def _known() -> dict[str, Shape]:
    return _kept()


def _kept() -> dict[str, Shape]:
    return {name: Shape(*numbers) for name, numbers in json.loads(CACHE.read_text()).items()} if CACHE.exists() else {}


def _keep() -> None:
    """Write the choices together with those of other processes. A new file is moved into place, so nobody reads half of one."""
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=CACHE.parent, delete=False) as file:
        json.dump(_kept() | _known(), file, indent=2)
    os.replace(file.name, CACHE)
