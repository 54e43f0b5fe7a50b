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

from jessl_kernels.triton.launch import MAX_PROGRAMS, Pairs, Side
from tests.mutants import sources
from tests.mutants.planted import NAME, planted

FAR = 2**31
ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE, which Python 3.11 has no name for
WIDENED = ".to(tl.int64)"
BM, BN = 16, 32
NO_PAIRS = Pairs(None, None, (), (), None, None, None, None)
PLAIN = {"LSE": True, "PHI": "identity", "LOW": 0.0, "HIGH": 0.0}
TILE = {"BM": BM, "BN": BN}
FUSED = {"KIND": "dot", "SHIFT": 0, "DTYPE": tl.float32, **PLAIN, **TILE}
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
    vars(found)["range"] = counted
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
    one = torch.ones(len(lse))
    return Side(one, lse, one)


def attended_rows(far: bool) -> Outputs:
    D = 16
    N = FAR // D + BM if far else BM
    x, y, row, pulled = ending(N, random(BM, D)), random(BN, D), room(1, N), room(1, N, D)
    run("fused", "row_sums", (N // BM - 1, 0), x, y, ONE, NO_PAIRS, row, None, pulled, None, None, 0, N, BN, BN,
        D=D, BD=16, ATTEND=True, **FUSED)  # fmt: skip
    yield from (row[0, -BM:], pulled[0, -BM:])


def summed_columns(far: bool) -> Outputs:
    D = 16
    M = FAR // D + BN if far else BN
    x, y, parts = random(BM, D), ending(M, random(BN, D)), M // BN
    row = room(parts, BM)
    run("fused", "row_sums", (0, parts - 1), x, y, ONE, NO_PAIRS, row, None, None, None, None, 0, BM, M, BN,
        D=D, BD=16, ATTEND=False, **FUSED)  # fmt: skip
    yield row[-1]


def parts_of_rows(far: bool) -> Outputs:
    parts = FAR // BM + 1 if far else 1
    x, y, row = random(BM, 1), ending(parts, random(1, 1)), room(parts, BM)
    run("fused", "row_sums", (0, parts - 1), x, y, ONE, NO_PAIRS, row, None, None, None, None, 0, BM, parts, 1,
        D=1, BD=16, ATTEND=False, **FUSED)  # fmt: skip
    yield row[-1]


def parts_of_columns(op_is_lse: bool) -> Callable[[bool], Outputs]:
    def case(far: bool) -> Outputs:
        D, M = 16, 2**16
        tiles = FAR // M + 1 if far else 1
        x, y, row, col = (
            ending(tiles * BM, random(BM, D)),
            ending(M, random(BN, D)),
            room(1, tiles * BM),
            room(tiles, M),
        )
        run("fused", "row_sums", (tiles - 1, 0), x, y[-BN:], ONE, NO_PAIRS, row, col[:, -BN:], None, None, None, 0,
            tiles * BM, M, BN, D=D, BD=16, ATTEND=False, **FUSED | {"LSE": op_is_lse})  # fmt: skip
        yield col[-1, -BN:]

    return case


def pulled_rows(far: bool) -> Outputs:
    D = 16
    N = FAR // D + BM if far else BM
    x, y, pulled, lse = ending(N, random(BM, D)), random(BN, D), room(1, N, D), ending(N, LSES)
    run("fused", "pull", (N // BM - 1, 0), x, y, ONE, NO_PAIRS, row_side(lse), None, None, None, pulled, None, None,
        None, N, BN, BN, D=D, BD=16, UNIT_UPSTREAM=True, **FUSED)  # fmt: skip
    yield pulled[0, -BM:]


def pulled_parts(far: bool) -> Outputs:
    parts = FAR // BM + 1 if far else 1
    x, y, psi, bias, scale = random(BM, 1), ending(parts, random(1, 1)), *(room(parts, BM) for _ in range(3))
    run("fused", "pull", (0, parts - 1), x, y, ONE, NO_PAIRS, row_side(LSES), None, None, None, room(parts, BM, 1), psi, bias,
        scale, BM, parts, 1, D=1, BD=16, UNIT_UPSTREAM=True, **FUSED)  # fmt: skip
    yield from (psi[-1], bias[-1], scale[-1])


def distances(far: bool) -> Outputs:
    D = 2
    M = FAR // D + BN if far else BN
    x, y, parts = random(BM, D, dtype=torch.float32), ending(M, random(BN, D, dtype=torch.float32)), M // BN
    row = room(parts, BM)
    run("fused", "row_sums", (0, parts - 1), x, y, ONE, NO_PAIRS, row, None, None, None, None, 0, BM, M, BN,
        D=D, BD=16, ATTEND=False, **FUSED | {"KIND": "sqdist"})  # fmt: skip
    yield row[-1]


def grad_of_block(far: bool) -> Outputs:
    D, cols = 16, 2**16
    down, across = FAR // cols // BM + 1 if far else 1, cols // BN if far else 1
    rows, cols = down * BM, across * BN
    x, y, u = ending(rows, random(BM, D)), ending(cols, random(BN, D)), room(rows, cols, dtype=torch.float16)
    lse = ending(rows, LSES)
    side = row_side(lse)
    run("score_grad", "score_grad_block", (down * across - 1, 0), x, y, u, ONE, NO_PAIRS, side, None, None, None,
        None, None, None, 0, rows, 0, cols, u.stride(0), D=D, BD=16, **PLAIN, **TILE)  # fmt: skip
    yield u[-BM:, -BN:]


def sums_of_blocks(cols_far: bool) -> Callable[[bool], Outputs]:
    """Of P, for rows or for columns. U itself goes where it may: all its rows to the first."""

    def case(far: bool) -> Outputs:
        D, few, many = 16, FAR // (2**15 * BM) + 1, 2**15
        down, across = ((few, many) if cols_far else (many, few)) if far else (1, 1)
        rows, cols = down * BM, across * BN
        x, y, u = ending(rows, random(BM, D)), ending(cols, random(BN, D)), room(cols, dtype=torch.float16)
        row, col = (None, room(down, cols)) if cols_far else (room(across, rows), None)
        side = row_side(ending(rows, LSES))
        run("score_grad", "score_grad_block", (down * across - 1, 0), x, y, u, ONE, NO_PAIRS, side, None, None, None,
            row, col, None, 0, rows, 0, cols, 0, D=D, BD=16, **PLAIN, **TILE)  # fmt: skip
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
        room(rows // BM * (M // BN), dtype=torch.int8), 0, rows, M, M, D=D, **TILE)  # fmt: skip
    yield of["t"][-BM:, -BN:]


def scores_of_strip(far: bool) -> Outputs:
    rows, M, of = large_strip(far, 1)
    options = {k: v for k, v in PLAIN.items() if k != "LSE"}
    run("epilogue", "scores_from_products", (rows // BM * (M // BN) - 1, 0), of["t"], 2 * ONE, NO_PAIRS, 0, rows, M, M,
        **options, **TILE)  # fmt: skip
    yield of["t"][-BM:, -BN:]


def absorbed(op_is_lse: bool) -> Callable[[bool], Outputs]:
    def case(far: bool) -> Outputs:
        rows, M, of = large_strip(far, 1)
        tiles, parts = rows // BM, M // BN
        row, largest, col, col_largest = room(parts, rows), room(parts, rows), room(tiles, M), room(tiles, M)
        run("epilogue", "absorb", (tiles - 1, parts - 1), of["t"], ONE, NO_PAIRS, largest, row, col_largest, col, 0, rows, M, M,
            BN, **PLAIN | {"LSE": op_is_lse}, **TILE)  # fmt: skip
        yield from (row[-1, -BM:], col[-1, -BN:])
        if op_is_lse:
            yield from (largest[-1, -BM:], col_largest[-1, -BN:])

    return case


def merged(far: bool) -> Outputs:
    rows, parts = (2**22 + BM, 2**9) if far else (BM, 2**9)
    largest, total, value = room(parts, rows), room(parts, rows), room(rows)
    largest[-1, -BM:], total[-1, -BM:] = LSES, 2.0
    run("epilogue", "merge", (rows // BM - 1, 0), largest, total, None, None, value, None, 0, rows, parts,
        LSE=True, **TILE)  # fmt: skip
    yield value[-BM:]


def grad_of_strip(far: bool) -> Outputs:
    rows, M, of = large_strip(far, 1)
    tiles, parts = rows // BM, M // BN
    row, col, side = room(parts, rows), room(tiles, M), row_side(of["lse"])
    run("epilogue", "score_grad", (tiles - 1, parts - 1), of["t"], of["u"], ONE, NO_PAIRS, side, None, None,
        None, row, col, None, None, None, 0, rows, M, M, BN, **PLAIN, **TILE)  # fmt: skip
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
    run("epilogue", "close", (owners - 1, D // 16 - 1), of["t"], of["x"], of["y"], ONE, NO_PAIRS,
        row_side(of["lse"]), None, None, torch.full((), -torch.inf), flags, target, 0, rows, M, M,
        D=D, COLS=cols, **PLAIN, **TILE)  # fmt: skip
    yield target[-(BN if cols else BM) :]


def normalized_and_scored(far: bool) -> Outputs:
    D = 16
    rows = FAR // D + BM if far else BM
    a, b = ending(rows, random(BM, D)), ending(rows, random(BM, D) + 1)
    a_unit, b_unit = (room(rows, D, dtype=torch.float16) for _ in "ab")
    a_norm, b_norm, raw, positive = (room(rows) for _ in range(4))
    run("rowwise", "normalize_and_score", (rows // BM - 1, 0), a, b, a_unit, b_unit, a_norm, b_norm, raw, positive,
        ONE, None, 0, 0, rows, D=D, BD=16, BM=BM, NORMALIZE=True, TWICE=False, DTYPE=tl.float32)  # fmt: skip
    yield from (of[-BM:] for of in (a_unit, b_unit, a_norm, b_norm, raw, positive))


def finalized(op_is_lse: bool) -> Callable[[bool], Outputs]:
    def case(far: bool) -> Outputs:
        parts, rows = (2**10, 2**21 + BM) if far else (2**10, BM)
        of = room(parts, rows)
        of[-1, -BM:] = LSES
        last = rows // BM - 1
        lse, share, losses = room(rows), room(rows), room(2 * MAX_PROGRAMS + last)
        run("rowwise", "finalize_rows", (last, 0), of, None, ONE, None, lse, share, None, losses, None, None, None,
            parts, 1, 1, rows, SECOND=False, LSE=op_is_lse, JOIN="none", BLOCK=BM, PARTS_PER_LOAD=32)  # fmt: skip
        yield from (lse[-BM:], share[-BM:], losses[last : last + 1])

    return case


BACKWARD = {"BM": BM, "NORMALIZE": False, "SHARES": True, "DTYPE": tl.float32}


def rows_backward(far: bool) -> Outputs:
    D = 16
    rows = FAR // D + BM if far else BM
    parts, ahead, behind = room(1, rows, D), ending(rows, random(BM, D)), ending(rows, random(BM, D) + 1)
    parts[0, -BM:] = random(BM, D, dtype=torch.float32)
    pair, out = ending(rows, LSES), room(rows, D)
    run("rowwise", "rows_backward", (rows // BM - 1, 0), parts, None, None, None, ONE, ONE, ahead, behind, pair, None,
        None, out, 0, rows, rows, 1, rows, rows, 0, D=D, BD=16, **BACKWARD)  # fmt: skip
    yield out[-BM:]


def rows_backward_of_parts(far: bool) -> Outputs:
    count, rows = 4, 2**30 + BM if far else BM
    parts, of_parts, out = room(count, rows, 1), room(count, rows), room(rows, 1)
    parts[-1, -BM:], of_parts[-1, -BM:] = random(BM, 1, dtype=torch.float32), LSES - 1
    run("rowwise", "rows_backward", (rows // BM - 1, 0), parts, of_parts, ending(rows, LSES), None, ONE, ONE, None,
        None, None, None, None, out, 0, rows, rows, count, rows, rows, 0, D=1, BD=16, **BACKWARD)  # fmt: skip
    yield out[-BM:]


def rows_backward_around(far: bool) -> Outputs:
    """A row and the number of all, which leads to its partner, are together more than 2³¹."""
    rows = 2**30 + BM if far else BM
    ahead, behind = ending(rows, random(BM, 1)), ending(rows, random(BM, 1) + 1)
    pair, out = ending(rows, LSES), room(rows, 1)
    run("rowwise", "rows_backward", (rows // BM - 1, 0), room(1, rows, 1), None, None, None, ONE, ONE, ahead, behind,
        pair, None, None, out, 0, rows, rows, 1, rows, rows, 0, D=1, BD=16, **BACKWARD)  # fmt: skip
    yield out[-BM:]


CASES: dict[str, Callable[[bool], Outputs]] = {
    "rows of x, and their results": attended_rows,
    "rows of y": summed_columns,
    "parts of row sums": parts_of_rows,
    "parts of column sums": parts_of_columns(True),
    "parts of column sums of ψ": parts_of_columns(False),
    "rows of x, pulled": pulled_rows,
    "parts of pulled sums": pulled_parts,
    "columns of y": distances,
    "U of a block": grad_of_block,
    "row sums of blocks": sums_of_blocks(False),
    "column sums of blocks": sums_of_blocks(True),
    "distances of a strip": settled,
    "scores of a strip": scores_of_strip,
    "sums of a strip": absorbed(True),
    "sums of ψ of a strip": absorbed(False),
    "merged sums of a strip": merged,
    "U of a strip": grad_of_strip,
    "rows of close pairs": close_rows,
    "columns of close pairs": close_columns,
    "rows and their partners": normalized_and_scored,
    "parts of a log-sum-exp": finalized(True),
    "parts of a sum of ψ": finalized(False),
    "rows rows_backward": rows_backward,
    "parts rows_backward": rows_backward_of_parts,
    "rows rows_backward, around the end": rows_backward_around,
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
