"""Cases of sweeps: fused, in blocks, and over strips."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from jessl_kernels.problem.types import Sums
from jessl_kernels.triton.launch import NO_SIDE, NO_SUMS, Side
from jessl_kernels.triton.strip_kernels import GradSums

from .interpreted import (
    BM,
    BN,
    FAR,
    FUSED,
    LSE,
    LSES,
    NO_PAIRS,
    ONE,
    PHI,
    PSI,
    SUMS,
    TILE,
    TWO,
    Outputs,
    Place,
    ending,
    ends,
    parts_of,
    random,
    room,
    row_side,
    run,
    two_sides,
)


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
    """Two tilts, of which the second begins after all of the first."""

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
    """A row's number plus the number of rows, the place of its second weight, exceeds 2³¹."""
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
    """Sums of P for rows or for columns. All rows of U itself are written to the first row."""

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
    """The arguments of strip kernels, with numbers for the last tile: t, U, the points, and log-sum-exps."""
    t = room(rows, M)
    t[-BM:, -BN:] = -random(BM, BN, dtype=torch.float32).abs()
    x, y = (ending(n, random(k, D, dtype=torch.float32)) for n, k in ((rows, BM), (M, BN)))
    return {"t": t, "u": room(rows, M), "x": x, "y": y, "lse": ending(rows, LSES)}


def large_strip(far: bool, D: int) -> tuple[int, int, dict[str, Tensor]]:
    """A strip so large that its sums, too, exceed 2³¹ elements."""
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


def grad_of_strip(far: bool) -> Outputs:
    rows, M, of = large_strip(far, 1)
    tiles, parts = rows // BM, M // BN
    row, col, side = room(parts, rows), room(tiles, M), row_side(of["lse"])
    run("epilogue", "score_grad", (tiles - 1, parts - 1), of["t"], of["u"], ONE, NO_PAIRS, side, NO_SIDE, None, None,
        GradSums(row, col, None, None, None), None, 0, rows, M, BN, **LSE, **PHI, **TILE)  # fmt: skip
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
        None, torch.full((), -torch.inf), flags, None, target, 0, rows, M, 0, M, D=D, COLS=cols, **LSE, **PHI,
        **TILE)  # fmt: skip
    yield target[-(BN if cols else BM) :]
