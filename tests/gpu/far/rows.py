"""Cases of the kernels of rows around the sweeps."""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton.language as tl
from torch import Tensor

from jessl_kernels.triton.launch import MAX_PROGRAMS, NO_SIDE, NO_SUMS, Side

from .interpreted import BM, FAR, LSES, ONE, PHI, TWO, Outputs, ending, ends, parts_of, random, room, row_side, run


def merged_sums(lse: bool, what: str) -> Callable[[bool], Outputs]:
    """Sums of two tilts; `what` may be so many rows that the second tilt begins beyond 2³¹."""

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
    """Partners by index, far away."""
    D = 16
    M = FAR // D + BM if far else BM
    a, b, raw, positive = random(BM, D), ending(M, random(BM, D) + 1), room(BM), room(BM)
    run("rowwise", "normalize_and_score", (0, 0), a, b, None, None, None, None, raw, positive, ONE, None, None, None, 0, 0, BM,
        M - BM, M, D=D, BD=16, BM=BM, NORMALIZE=False, BESIDE=False, TWICE=False, KIND="dot", **PHI,
        DTYPE=tl.float32)  # fmt: skip
    yield from (raw, positive)


def finalized(lse: bool, what: str) -> Callable[[bool], Outputs]:
    """Two tilts with many parts, or with so many rows that the weights of the second tilt begin beyond 2³¹."""

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
    """Two tilts, of which the second begins after all parts of the first."""
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
    """A row's number plus the number of rows, from which its partner is found, exceeds 2³¹."""
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
