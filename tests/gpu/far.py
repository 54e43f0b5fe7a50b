"""Tiles beyond 2³¹ elements of what a kernel reads or writes: each must come out, to the bit, as at the beginning.

Run as a program, under Triton's interpreter: it reads memory where it lies (the executor of the other tests copies it), so that
tensors of billions of elements can stand for those of a GPU. Nobody writes to them but in one tile, and the system gives
memory to what is written alone. The interpreter rounds bf16 wrongly, so embeddings are fp16.

    python -m tests.gpu.far             every case
    python -m tests.gpu.far --planted   every case again for each `.to(tl.int64)` of the kernels, without it
"""

from __future__ import annotations

import importlib
import math
import mmap
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when it is imported

import torch
import triton.language as tl
from torch import Tensor
from triton.runtime import interpreter

from jessl_kernels.problem.types import Sums
from jessl_kernels.triton.launch import MAX_PROGRAMS, NO_SIDE, NO_SUMS, Pairs, Side
from jessl_kernels.triton.strip_kernels import GradSums
from tests.mutants import sources
from tests.mutants.planted import NAME, planted

FAR = 2**31
ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE, which Python 3.11 has no name for
WIDENED = ".to(tl.int64)"
BM, BN = 16, 32
NO_PAIRS = Pairs(None, None, (), (), (), (), (), ())
PHI = {"PHI": "identity", "LOW": 0.0, "HIGH": 0.0}
LSE, PSI = {"OP": "logsumexp", "TILTS": (1.0,)}, {"OP": "softplus", "TILTS": (1.0,)}
TWO, TWO_PSI = LSE | {"TILTS": (0.5, 1.5)}, PSI | {"TILTS": (0.5, 1.5)}
TILE = {"BM": BM, "BN": BN}
FUSED = {"KIND": "dot", "DTYPE": tl.float32, **PHI, **TILE}
SUMS = {"ATTEND": False, "SHIFT": 0, **FUSED}
ONE = torch.ones((), dtype=torch.float64)

# It copies all arguments back to where they came from, which on the CPU is where they are: every page of them.
interpreter.GridExecutor._restore_args_dev = lambda *_: None
# A kernel asks how many coefficients there are, which the compiler answers and the interpreter does not.
tl.constexpr.__len__ = lambda self: len(self.value)

Place = tuple[int, int]
Outputs = Iterator[Tensor]


class Counted(int):
    """The number of a round of a loop: a tensor in compiled code, for the interpreter a mere int."""

    def to(self, dtype: Any) -> Any:
        return tl.full([], int(self), dtype)


def counted(*bounds: Any) -> Iterator[Counted]:
    return map(Counted, range(*map(int, bounds)))


def run(module: str, kernel: str, program: Place, *args: Any, **options: Any) -> None:
    """This program of a launch, and no other."""
    found = importlib.import_module(f"{NAME}.{module}")
    for name in sources.modules():
        vars(importlib.import_module(f"{NAME}.{name}"))["range"] = counted
    launched = getattr(found, kernel)
    builder, real = interpreter.interpreter_builder, interpreter.interpreter_builder.set_grid_idx
    dimensions = builder.set_grid_dim
    builder.set_grid_dim = lambda *_: dimensions(program[0] + 1, program[1] + 1, 1)
    builder.set_grid_idx = lambda *_: real(*program, 0)
    try:
        launched[(1,)](*args, **options)
    finally:
        builder.set_grid_dim, builder.set_grid_idx = dimensions, real


def random(*shape: int, dtype: torch.dtype = torch.float16) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def ending(rows: int, end: Tensor) -> Tensor:
    """So many rows, of which the last are these."""
    whole = room(rows, *end.shape[1:], dtype=end.dtype)
    whole[-len(end) :] = end
    return whole


def room(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Zeros without memory until they are written to, and be it more than the machine has."""
    bytes_ = math.prod(shape) * dtype.itemsize
    return torch.frombuffer(mmap.mmap(-1, bytes_, flags=ANONYMOUS), dtype=dtype).view(shape)


LSES = 20 + random(BM, dtype=torch.float32)  # so that no weight is too large for fp16


def row_side(lse: Tensor) -> Side:
    """Of rows whose gradients are 1."""
    return Side(lse[None], torch.ones(1, len(lse)))


def two_sides(n: int) -> Side:
    """Of so many rows, of two tilts."""
    reference, factor = room(2, n), room(2, n)
    reference[:, -BM:], factor[:, -BM:] = torch.stack([LSES, LSES + 1]), torch.tensor([[1.0], [2.0]])
    return Side(reference, factor)


def parts_of(count: int, n: int, tilts: int = 1, *, lse: bool = True, linear: bool = False) -> Sums:
    """Parts that nobody has written to."""
    total = room(tilts, count, n)
    also = (room(count, n), room(count, n)) if linear else (None, None)
    return Sums(room(tilts, count, n) if lse else None, total, *also)


def ends(parts: Sums, size: int) -> Outputs:
    """What stands at their end."""
    for t in parts:
        if t is not None:
            yield t[..., -1, -size:]


def summed(
    program: Place, x: Tensor, y: Tensor, row: Sums, col: Sums, N: int, M: int, each: int, **options: Any
) -> None:
    run("fused", "row_sums", program, x, y, ONE, NO_PAIRS, row, col, None, None, 0, 0, N, M, each, **SUMS | options)


def attended_rows(far: bool) -> Outputs:
    D = 16
    N = FAR // D + BM if far else BM
    x, y, row, pulled, mean = ending(N, random(BM, D)), random(BN, D), parts_of(1, N), room(1, N, D), room(1, N)
    run("fused", "row_sums", (N // BM - 1, 0), x, y, ONE, NO_PAIRS, row, NO_SUMS, pulled, mean, 0, 0, N, BN, BN,
        D=D, BD=16, **LSE, **SUMS | {"ATTEND": True})  # fmt: skip
    yield from ends(row, BM)
    yield from (pulled[0, -BM:], mean[0, -BM:])


def summed_columns(far: bool) -> Outputs:
    D = 16
    M = FAR // D + BN if far else BN
    x, y, parts = random(BM, D), ending(M, random(BN, D)), M // BN
    row = parts_of(parts, BM)
    summed((0, parts - 1), x, y, row, NO_SUMS, BM, M, BN, D=D, BD=16, **LSE)
    yield from ends(row, BM)


def parts_of_rows(op: dict) -> Callable[[bool], Outputs]:
    """Of two tilts, of which the second begins after all of the first."""

    def case(far: bool) -> Outputs:
        parts = FAR // BM + 1 if far else 1
        x, y = random(BM, 1), ending(parts, random(1, 1))
        row = parts_of(parts, BM, 2, lse=op is TWO, linear=True)
        summed((0, parts - 1), x, y, row, NO_SUMS, BM, parts, 1, D=1, BD=16, **op)
        yield from ends(row, BM)

    return case


def parts_of_columns(op: dict) -> Callable[[bool], Outputs]:
    def case(far: bool) -> Outputs:
        D, M = 16, 2**16 if far else BN
        tiles = FAR // M + 1 if far else 1
        x, y = ending(tiles * BM, random(BM, D)), ending(M, random(BN, D))
        row = parts_of(M // BN, tiles * BM, 2, lse=op is TWO, linear=True)
        col = parts_of(tiles, M, 2, lse=op is TWO, linear=True)
        summed((tiles - 1, M // BN - 1), x, y, row, col, tiles * BM, M, BN, D=D, BD=16, **op)
        yield from ends(col, BN)

    return case


def pulled_rows(far: bool) -> Outputs:
    D = 16
    N = FAR // D + BM if far else BM
    x, y, pulled, lse = ending(N, random(BM, D)), random(BN, D), room(1, N, D), ending(N, LSES)
    run("fused", "pull", (N // BM - 1, 0), x, y, ONE, NO_PAIRS, row_side(lse), NO_SIDE, None, pulled, None, None,
        None, 0, N, N, BN, BN, D=D, BD=16, **LSE, **FUSED)  # fmt: skip
    yield pulled[0, -BM:]


def pulled_rows_of_two_tilts(far: bool) -> Outputs:
    """A row and the number of all, which leads to its second weight, are together more than 2³¹."""
    N = 2**30 + BM if far else BM
    x, y, pulled = ending(N, random(BM, 1)), random(BN, 1), room(1, N, 1)
    run("fused", "pull", (N // BM - 1, 0), x, y, ONE, NO_PAIRS, two_sides(N), NO_SIDE, None, pulled, None, None,
        None, 0, N, N, BN, BN, D=1, BD=16, **TWO, **FUSED)  # fmt: skip
    yield pulled[0, -BM:]


def pulled_parts(far: bool) -> Outputs:
    parts = FAR // BM + 1 if far else 1
    x, y, psi, bias, scale = random(BM, 1), ending(parts, random(1, 1)), *(room(parts, BM) for _ in range(3))
    run("fused", "pull", (0, parts - 1), x, y, ONE, NO_PAIRS, Side(factor=torch.ones(1, BM)), NO_SIDE, None,
        room(parts, BM, 1), psi, bias, scale, 0, BM, BM, parts, 1, D=1, BD=16, **PSI, **FUSED)  # fmt: skip
    yield from (psi[-1], bias[-1], scale[-1])


def distances(far: bool) -> Outputs:
    D = 2
    M = FAR // D + BN if far else BN
    x, y, parts = random(BM, D, dtype=torch.float32), ending(M, random(BN, D, dtype=torch.float32)), M // BN
    row = parts_of(parts, BM)
    summed((0, parts - 1), x, y, row, NO_SUMS, BM, M, BN, D=D, BD=16, KIND="sqdist", **LSE)
    yield from ends(row, BM)


def grad_of_block(far: bool) -> Outputs:
    D, cols = 16, 2**16
    down, across = FAR // cols // BM + 1 if far else 1, cols // BN if far else 1
    rows, cols = down * BM, across * BN
    x, y, u = ending(rows, random(BM, D)), ending(cols, random(BN, D)), room(rows, cols, dtype=torch.float16)
    run("score_grad", "score_grad_block", (down * across - 1, 0), x, y, u, ONE, NO_PAIRS, row_side(ending(rows, LSES)),
        NO_SIDE, None, None, None, None, None, 0, rows, 0, cols, rows, cols, u.stride(0), D=D, BD=16, **LSE, **PHI,
        **TILE)  # fmt: skip
    yield u[-BM:, -BN:]


def sums_of_blocks(cols_far: bool) -> Callable[[bool], Outputs]:
    """Of P, for rows or for columns. U itself goes where it may: all its rows to the first."""

    def case(far: bool) -> Outputs:
        D, few, many = 16, FAR // (2**15 * BM) + 1, 2**15
        down, across = ((few, many) if cols_far else (many, few)) if far else (1, 1)
        rows, cols = down * BM, across * BN
        x, y, u = ending(rows, random(BM, D)), ending(cols, random(BN, D)), room(cols, dtype=torch.float16)
        row, col = (None, room(down, cols)) if cols_far else (room(across, rows), None)
        run("score_grad", "score_grad_block", (down * across - 1, 0), x, y, u, ONE, NO_PAIRS, row_side(ending(rows, LSES)),
            NO_SIDE, None, None, row, col, None, 0, rows, 0, cols, rows, cols, 0, D=D, BD=16, **LSE, **PHI, **TILE)  # fmt: skip
        if row is not None:
            yield row[-1, -BM:]
        if col is not None:
            yield col[-1, -BN:]

    return case


def strip(rows: int, M: int, D: int) -> dict[str, Tensor]:
    """What kernels of strips take, with numbers for the last tile: t, U, the points, and log-sum-exps."""
    t = room(rows, M)
    t[-BM:, -BN:] = -random(BM, BN, dtype=torch.float32).abs()
    x, y = (ending(n, random(k, D, dtype=torch.float32)) for n, k in ((rows, BM), (M, BN)))
    return {"t": t, "u": room(rows, M), "x": x, "y": y, "lse": ending(rows, LSES)}


def large_strip(far: bool, D: int) -> tuple[int, int, dict[str, Tensor]]:
    """One so large that its sums, too, are more than 2³¹."""
    rows, M = (2**15 + BM, 2**21 + BN) if far else (BM, BN)
    return rows, M, strip(rows, M, D)


def settled(far: bool) -> Outputs:
    D = 17
    rows, M, of = large_strip(far, D)
    squares = [(of[z] ** 2).sum(1) for z in "xy"]
    close_above = torch.full((), -torch.inf)
    run("epilogue", "settle", (rows // BM * (M // BN) - 1, 0), of["t"], of["x"], of["y"], *squares, close_above,
        room(rows // BM * (M // BN), dtype=torch.int8), 0, rows, M, D=D, **TILE)  # fmt: skip
    yield of["t"][-BM:, -BN:]


def scores_of_strip(far: bool) -> Outputs:
    rows, M, of = large_strip(far, 1)
    run("epilogue", "finish", (rows // BM * (M // BN) - 1, 0), of["t"], 2 * ONE, NO_PAIRS, 0, rows, M,
        **PHI, **TILE)  # fmt: skip
    yield of["t"][-BM:, -BN:]


def absorbed(op: dict) -> Callable[[bool], Outputs]:
    def case(far: bool) -> Outputs:
        rows, M, of = large_strip(far, 1)
        tiles, parts, lse = rows // BM, M // BN, op is TWO
        row = parts_of(parts, rows, 2, lse=lse, linear=True)
        col = parts_of(tiles, M, 2, lse=lse, linear=True)
        run("fused", "row_sums", (tiles - 1, parts - 1), of["t"], None, ONE, NO_PAIRS, row, col, None, None, 0, 0, rows, M, BN,
            D=0, BD=0, **op, **SUMS | {"KIND": "strip"})  # fmt: skip
        yield from ends(row, BM)
        yield from ends(col, BN)

    return case


def merged_sums(lse: bool, what: str) -> Callable[[bool], Outputs]:
    """Of two tilts, or so many rows that those of the second begin late."""

    def case(far: bool) -> Outputs:
        parts = 2**9 if what == "parts" else 1
        rows = (2**31 // parts if what == "parts" else 2**30) + BM if far else BM
        of, made = parts_of(parts, rows, 2, lse=lse), parts_of(1, rows, 2, lse=lse)
        for t, number in ((of.reference, LSES), (of.total, 2.0 + LSES)):
            if t is not None:
                t[:, -1, -BM:] = number
        # Only the last block of rows is taken.
        run("finalize", "merge_sums", (rows // BM - 1, 0), of.total, of, made, parts, rows, rows, TILTS=2, ADD=False, BLOCK=BM,
            PARTS_PER_LOAD=32)  # fmt: skip
        yield from ends(made, BM)

    return case


def grad_of_strip(far: bool) -> Outputs:
    rows, M, of = large_strip(far, 1)
    tiles, parts = rows // BM, M // BN
    row, col, side = room(parts, rows), room(tiles, M), row_side(of["lse"])
    run("epilogue", "score_grad", (tiles - 1, parts - 1), of["t"], of["u"], ONE, NO_PAIRS, side, NO_SIDE, None, None,
        GradSums(row, col, None, None, None), 0, rows, M, BN, **LSE, **PHI, **TILE)  # fmt: skip
    yield from (of["u"][-BM:, -BN:], row[-1, -BM:], col[-1, -BN:])


def close_rows(far: bool) -> Outputs:
    yield from _close(FAR // 64 + BM if far else BM, BN, 64, False)


def close_columns(far: bool) -> Outputs:
    yield from _close(BM, FAR // 64 + BN if far else BN, 64, True)


def _close(rows: int, M: int, D: int, cols: bool) -> Outputs:
    of = strip(rows, M, D)
    target = room(M if cols else rows, D)
    owners = M // BN if cols else rows // BM
    flags = ending(rows // BM * (M // BN), torch.ones(1, dtype=torch.int8))
    run("epilogue", "close", (owners - 1, D // 16 - 1), of["t"], of["x"], of["y"], ONE, NO_PAIRS, row_side(of["lse"]), NO_SIDE,
        None, torch.full((), -torch.inf), flags, target, 0, rows, M, 0, M, D=D, COLS=cols, **LSE, **PHI,
        **TILE)  # fmt: skip
    yield target[-(BN if cols else BM) :]


def normalized_and_scored(far: bool) -> Outputs:
    D = 16
    rows = FAR // D + BM if far else BM
    a, b = ending(rows, random(BM, D)), ending(rows, random(BM, D) + 1)
    a_unit, b_unit = (room(rows, D, dtype=torch.float16) for _ in "ab")
    a_norm, b_norm, raw, positive = (room(rows) for _ in range(4))
    run("rowwise", "normalize_and_score", (rows // BM - 1, 0), a, b, a_unit, b_unit, a_norm, b_norm, raw, positive,
        ONE, None, None, None, 0, 0, rows, 0, rows, D=D, BD=16, BM=BM, NORMALIZE=True, BESIDE=True, TWICE=False, KIND="dot",
        **PHI, DTYPE=tl.float32)  # fmt: skip
    yield from (of[-BM:] for of in (a_unit, b_unit, a_norm, b_norm, raw, positive))


def scored_with_others(far: bool) -> Outputs:
    """Partners by their numbers, which lie far."""
    D = 16
    M = FAR // D + BM if far else BM
    a, b, raw, positive = random(BM, D), ending(M, random(BM, D) + 1), room(BM), room(BM)
    run("rowwise", "normalize_and_score", (0, 0), a, b, None, None, None, None, raw, positive, ONE, None, None, None, 0, 0, BM,
        M - BM, M, D=D, BD=16, BM=BM, NORMALIZE=False, BESIDE=False, TWICE=False, KIND="dot", **PHI,
        DTYPE=tl.float32)  # fmt: skip
    yield from (raw, positive)


def finalized(lse: bool, what: str) -> Callable[[bool], Outputs]:
    """Of two tilts; many parts, or so many rows that the weights of the second tilt begin late."""

    def case(far: bool) -> Outputs:
        parts = 2**10 if what == "parts" else 1
        rows = (2**31 // parts if what == "parts" else 2**30) + BM if far else BM
        of = parts_of(parts, rows, 2, lse=lse)
        for t, number in ((of.reference, LSES), (of.total, 2.0 + LSES)):
            if t is not None:
                t[:, -1, -BM:] = torch.stack([number + 0 * LSES, number + LSES]) if t is of.total else LSES
        last = rows // BM - 1
        losses = room(2 * MAX_PROGRAMS + last)
        to = Side(room(2, rows) if lse else None, room(2, rows), room(2, rows) if lse else None)
        lse_range = room(2 * MAX_PROGRAMS + max(last, 2)) if lse else None
        positive, pair = ending(rows, LSES - 1), room(rows)
        one = torch.ones((), dtype=torch.float64)
        run("finalize", "finalize_rows", (last, 0), of.total, of, NO_SUMS, positive, None, None, None, one, None, to, NO_SIDE,
            pair, None, losses, None, lse_range, NO_SUMS, parts, 0, 0, rows, rows, 0, rows, 0, SECOND=False,
            OP="logsumexp" if lse else "softplus", TILTS=(0.5, 1.5), POSITIVE_OP="logsumexp", POSITIVE_TILT=1.0,
            JOIN="tilt_difference", BLOCK=BM, PARTS_PER_LOAD=32)  # fmt: skip
        yield from (t[:, -BM:] for t in to if t is not None)
        yield from (pair[-BM:], losses[last : last + 1])

    return case


def first_references(far: bool) -> Outputs:
    """Of two tilts, of which the second begins after all parts of the first."""
    parts, rows = 2, 2**30 + BM if far else BM
    of = parts_of(parts, rows, 2)
    assert of.reference is not None and of.total is not None
    of.reference[:, :, 0], of.total[:, :, 0] = torch.tensor([[3.0, 4.0], [5.0, 6.0]]), 2.0
    small, to = parts_of(1, BM, 2), Side(room(2, BM), room(2, BM), room(2, BM))
    assert small.reference is not None and small.total is not None
    small.reference[:], small.total[:] = LSES, 1.0
    lse_range, losses = room(2 * MAX_PROGRAMS + 2), room(2 * MAX_PROGRAMS)
    run("finalize", "finalize_rows", (0, 0), small.total, small, NO_SUMS, LSES, None, None, None, ONE, None, to, NO_SIDE, None,
        None, losses, None, lse_range, of, 1, 0, parts, rows, BM, 0, BM, 0, SECOND=False, **TWO, POSITIVE_OP="logsumexp",
        POSITIVE_TILT=1.0, JOIN="tilt_difference", BLOCK=BM, PARTS_PER_LOAD=32)  # fmt: skip
    yield from (lse_range, to.rescaled)


BACKWARD = {"BM": BM, "NORMALIZE": False, "SCALED": False, "KIND": "dot", **PHI, "DTYPE": tl.float32}


def rows_backward(far: bool) -> Outputs:
    D = 16
    rows = FAR // D + BM if far else BM
    parts, ahead, behind = room(1, rows, D), ending(rows, random(BM, D)), ending(rows, random(BM, D) + 1)
    parts[0, -BM:] = random(BM, D, dtype=torch.float32)
    _rows_backward(parts, None, NO_SIDE, ahead, behind, ending(rows, LSES), rows, 1, D)
    yield parts.made[-BM:]  # pyright: ignore[reportAttributeAccessIssue]


def rows_backward_of_parts(far: bool) -> Outputs:
    count, rows = 4, 2**30 + BM if far else BM
    parts, of_parts = room(count, rows, 1), room(count, rows)
    parts[-1, -BM:], of_parts[-1, -BM:] = random(BM, 1, dtype=torch.float32), LSES - 1
    _rows_backward(parts, of_parts, row_side(ending(rows, LSES)), None, None, None, rows, count, 1)
    yield parts.made[-BM:]  # pyright: ignore[reportAttributeAccessIssue]


def rows_backward_around(far: bool) -> Outputs:
    """A row and the number of all, which leads to its partner, are together more than 2³¹."""
    rows = 2**30 + BM if far else BM
    ahead, behind = ending(rows, random(BM, 1)), ending(rows, random(BM, 1) + 1)
    parts = room(1, rows, 1)
    _rows_backward(parts, None, NO_SIDE, ahead, behind, ending(rows, LSES), rows, 1, 1)
    yield parts.made[-BM:]  # pyright: ignore[reportAttributeAccessIssue]


def _rows_backward(
    parts: Tensor, of_parts: Tensor | None, side: Side, ahead: Tensor | None, behind: Tensor | None, pair: Tensor | None,
    rows: int, count: int, D: int,
) -> None:  # fmt: skip
    parts.made = room(rows, D)  # pyright: ignore[reportAttributeAccessIssue]
    run("rowwise", "rows_backward", (rows // BM - 1, 0), parts, of_parts, side, ONE, ONE, None, ahead, behind, pair, pair, None,
        parts, parts, None, parts.made, 0, 0, rows, rows, count, rows, rows, 0, D=D, BD=16, **BACKWARD)  # fmt: skip


CASES: dict[str, Callable[[bool], Outputs]] = {
    "rows of x, and their results": attended_rows,
    "rows of y": summed_columns,
    "parts of row sums": parts_of_rows(TWO),
    "parts of row sums of ψ": parts_of_rows(TWO_PSI),
    "parts of column sums": parts_of_columns(TWO),
    "parts of column sums of ψ": parts_of_columns(TWO_PSI),
    "rows of x, pulled": pulled_rows,
    "rows of x, pulled by two tilts": pulled_rows_of_two_tilts,
    "parts of pulled sums": pulled_parts,
    "columns of y": distances,
    "U of a block": grad_of_block,
    "row sums of blocks": sums_of_blocks(False),
    "column sums of blocks": sums_of_blocks(True),
    "distances of a strip": settled,
    "scores of a strip": scores_of_strip,
    "sums of a strip": absorbed(TWO),
    "sums of ψ of a strip": absorbed(TWO_PSI),
    "merged parts": merged_sums(True, "parts"),
    "merged parts of ψ": merged_sums(False, "parts"),
    "merged sums": merged_sums(True, "rows"),
    "U of a strip": grad_of_strip,
    "rows of close pairs": close_rows,
    "columns of close pairs": close_columns,
    "rows and their partners": normalized_and_scored,
    "rows and others": scored_with_others,
    "parts of a log-sum-exp": finalized(True, "parts"),
    "parts of a sum of ψ": finalized(False, "parts"),
    "weights of many rows": finalized(True, "rows"),
    "what sums are measured from": first_references,
    "gradients of rows": rows_backward,
    "gradients of rows by parts": rows_backward_of_parts,
    "gradients of rows, around the end": rows_backward_around,
}


def check(names: Iterable[str]) -> None:
    for name in names:
        for near, far in zip(CASES[name](False), CASES[name](True), strict=True):
            assert near.isfinite().all() and near.any(), f"{name}: {near}"
            assert torch.equal(near, far), f"{name}: off by {(near - far).abs().max()} of {near.abs().max()}"


def faults() -> Iterator[tuple[str, str, str]]:
    """Each line that makes 64 bits of 32, its module, and the module's source without that."""
    for module in sources.modules():
        lines = (sources.PACKAGE / f"{module}.py").read_text().splitlines(keepends=True)
        for k, line in enumerate(lines):
            if WIDENED in line:
                yield (
                    module,
                    f"{module}.py:{k + 1}: {line.strip()}",
                    "".join([*lines[:k], line.replace(WIDENED, ""), *lines[k + 1 :]]),
                )


def noticed(module: str, source: str) -> bool:
    """Whether a case fails with this source, in a process of its own, which an address from nowhere may end."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        with tempfile.TemporaryDirectory() as folder, planted(Path(folder), module, source):
            check(CASES)
        os._exit(0)
    return os.waitpid(child, 0)[1] != 0


if __name__ == "__main__":
    if "--planted" in sys.argv:
        for module, line, source in faults():
            print("noticed" if noticed(module, source) else "unnoticed", line, flush=True)
    else:
        for name in CASES:
            check([name])
            print(name, flush=True)
