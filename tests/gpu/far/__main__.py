"""Tiles beyond 2³¹ elements of a kernel's tensors: each must be equal, to the bit, to the same tile at the beginning.

python -m tests.gpu.far             every case
python -m tests.gpu.far --planted   every case again for each `.to(tl.int64)` of the kernels, without it
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch

from tests.mutants import sources
from tests.mutants.planted import plant

from .interpreted import TWO, TWO_PSI, Outputs
from .rows import (
    finalized,
    first_references,
    merged_sums,
    normalized_and_scored,
    rows_backward,
    rows_backward_around,
    rows_backward_of_parts,
    scored_with_others,
)
from .tiles import (
    absorbed,
    attended_rows,
    close_columns,
    close_rows,
    distances,
    grad_of_block,
    grad_of_strip,
    parts_of_columns,
    parts_of_rows,
    pulled_parts,
    pulled_rows,
    pulled_rows_of_two_tilts,
    scores_of_strip,
    settled,
    summed_columns,
    sums_of_blocks,
)

WIDENED = ".to(tl.int64)"

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
    """Each line that widens 32 bits to 64, its module, and the module's source without the widening."""
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
    """Whether a case fails with this source, in its own process, which a wild address may crash."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        with tempfile.TemporaryDirectory() as folder:
            plant(Path(folder), module, source)
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
