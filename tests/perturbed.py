"""The executor with the arithmetic of a worse GPU, under which the kernels must stay within the yardstick.

    last_bits   exp, exp2, log and log2 off by up to 2 ulp, at random: hardware's are approximations; e^x in fp32 is 2^y with
                y = x·log2 e rounded, as Triton makes it, which is off by 22 ulp at |x| = 88
    flushed     fp32 numbers below 2⁻¹²⁶ are 0: hardware's fast functions, and compilers' defaults
    truncated   a product's sum is truncated, not rounded, after every 16 terms, as tensor cores were seen to do
    shuffled    the programs of a launch in another order

For use within `executor.gpu()`: they exchange entries of ttsem's table of operations.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np

ULPS, STEP = 2, 16
TINY = np.finfo(np.float32).tiny
LOG2_E = np.float32(np.log2(np.e))


@contextlib.contextmanager
def _exchanged(names: list[str], changed: Callable[[np.ndarray], np.ndarray]) -> Iterator[None]:
    """Change the results of these operations if they are floats of 32 or 64 bits."""
    from ttsem.ops import OPS

    def around(handler):
        def handle(*given):
            return [changed(np.asarray(r)) if getattr(r, "dtype", None) in FLOATS else r for r in handler(*given)]

        return handle

    with mock.patch.dict(OPS, {name: around(OPS[name]) for name in names}):
        yield


FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


@contextlib.contextmanager
def last_bits(seed: int = 0) -> Iterator[None]:
    generator = np.random.default_rng(seed)

    def off(value: np.ndarray) -> np.ndarray:
        # 0, infinities and NaN are exact; e⁰ = 1 and log 1 = 0 are not taken to be.
        usual = np.isfinite(value) & (value != 0)
        step = generator.integers(-ULPS, ULPS + 1, value.shape)
        with np.errstate(all="ignore"):
            return np.where(usual, value + step.astype(value.dtype) * np.spacing(np.abs(value)), value).astype(
                value.dtype
            )

    from ttsem.ops import OPS

    exp = OPS["math.exp"]

    def by_two(interp: Any, op: Any, args: list[Any]) -> list[Any]:
        x = np.asarray(args[0])
        return [np.exp2(x * LOG2_E)] if x.dtype == np.float32 else exp(interp, op, args)

    with (
        mock.patch.dict(OPS, {"math.exp": by_two}),
        np.errstate(over="ignore"),
        _exchanged(["math.exp", "math.exp2", "math.log", "math.log2"], off),
    ):
        yield


@contextlib.contextmanager
def flushed() -> Iterator[None]:
    from ttsem.ops import OPS

    def flush(value: np.ndarray) -> np.ndarray:
        return value if value.dtype != np.float32 else np.where(np.abs(value) < TINY, np.float32(0.0), value)

    names = [name for name in OPS if name.startswith(("math.", "arith.")) and name.endswith("f")]
    with _exchanged([*names, "math.exp", "math.exp2", "math.log", "math.log2", "math.sqrt", "tt.dot"], flush):
        yield


@contextlib.contextmanager
def truncated() -> Iterator[None]:
    from ttsem import ops

    rounded = ops._fma_chain

    def cut(a: np.ndarray, b: np.ndarray, c: np.ndarray, dtype: type) -> np.ndarray:
        if dtype != np.float32:
            return rounded(a, b, c, dtype)  # fp64 is added as it is
        total = np.asarray(c, np.float32)
        for k in range(0, a.shape[-1], STEP):
            wide = (
                np.matmul(a[..., k : k + STEP].astype(np.float64), b[..., k : k + STEP, :].astype(np.float64)) + total
            )
            near = wide.astype(np.float32)
            total = np.where(np.abs(near) > np.abs(wide), np.nextafter(near, np.float32(0.0)), near)
        return total

    with mock.patch.object(ops, "_fma_chain", cut):
        yield


def shuffled(seed: int = 0) -> contextlib.AbstractContextManager[object]:
    return mock.patch.dict(os.environ, TTSEM_GRID_ORDER=f"shuffle:{seed}")
