"""Times every shape of a tile that the fused kernels may take, on the GPU that is there: for the tables of `shapes.py`.

    python -m benchmarks.gpu_tiles --out runs/tiles.md

A row for each kernel and padded dimension, the shapes from fast to slow, as rows × columns, warps and stages; that of the table
is bold. A shape whose code does not fit the device is left out; one that spills registers is timed all the same, and
`tests/gpu/test_compiled.py` refuses it. Kernels are compiled in as many processes as there are cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch

from jessl_kernels.problem.exclude import Exclude
from jessl_kernels.problem.phi import IDENTITY
from jessl_kernels.problem.score import Score
from jessl_kernels.problem.types import Terms, Weights
from jessl_kernels.triton import launch, shapes
from jessl_kernels.triton.launch import Problem, Sides
from jessl_kernels.triton.shapes import Shape

KERNELS = {
    "sums": 1,
    "both": 1,
    "attend": 2,
    "pull": 2,
    "pull both": 2,
    "pull both scale": 2,
    "pull psi": 2,
}  # products
DIMENSIONS = (16, 32, 64, 128, 256)
ROWS, FEW = 32768, 512  # timed, and only compiled
WORKSPACE = 64 << 20
ROUNDS, CALLS = 5, 3  # medians of the first, of so many calls together, whose launches hide behind each other
Case = tuple[str, int, Shape]


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_tiles", description="Times every shape of the fused kernels' tiles."
    )
    parser.add_argument("--out", type=Path, required=True, help="a Markdown file")
    parser.add_argument("--kernels", nargs="+", choices=list(KERNELS), default=list(KERNELS))
    parser.add_argument("--dimensions", nargs="+", type=int, choices=DIMENSIONS, default=list(DIMENSIONS), metavar="D")
    return parser.parse_args(arguments)


def score(N: int, D: int, device: str) -> Score:
    """Unit rows in bf16, without their partners; scores reach 10."""
    x, y = (torch.nn.functional.normalize(torch.randn(N, D, device=device), dim=1).bfloat16() for _ in range(2))
    scale = torch.full((), 10.0, dtype=torch.float64, device=device)
    return Score(x, y, scale, None, None, Exclude((0,)), "dot", IDENTITY)


def candidates(kernel: str, of: Score) -> list[Shape]:
    """The table's first."""
    table = shapes.of(kernel, of)
    return [table, *(shape for shape in shapes.around(kernel, of) if shape != table)]


def call(case: Case, N: int, device: str = "cuda") -> Callable[[], object]:
    """A launch of the kernel in this shape, with what is merged after it left out."""
    kernel, D, shape = case
    of = score(N, D, device)
    problem = Problem.of(of)
    if kernel == "attend":
        return partial(launch.attend, problem, False, 0, WORKSPACE, shape)
    if kernel in ("sums", "both"):
        return partial(launch.sum_parts, problem, Terms(), kernel == "both", WORKSPACE, shape=shape)
    reference, factor = torch.full((1, N), 10.0, device=device), torch.full((1, N), 1.0 / N, device=device)
    pull = partial(launch.pull, problem, workspace=WORKSPACE, shape=shape)
    if kernel == "pull psi":
        return partial(pull, Sides.of(Weights(None, factor), None), Terms("softplus"), psi=True)
    weights = Weights(reference, factor)
    if kernel == "pull":
        return partial(pull, Sides.of(weights, None), Terms())
    return partial(pull, Sides.of(weights, weights), Terms(), scale=kernel == "pull both scale")


def compiled(case: Case) -> str:
    """Leaves the kernel in Triton's cache; returns why it cannot be launched, or nothing."""
    try:
        call(case, FEW)()
        torch.cuda.synchronize()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def milliseconds(run: Callable[[], object]) -> float:
    run()
    found = []
    for _ in range(ROUNDS):
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        before.record()
        for _ in range(CALLS):
            run()
        after.record()
        torch.cuda.synchronize()
        found.append(before.elapsed_time(after) / CALLS)
    return statistics.median(found)


def lines(kernels: list[str], dimensions: list[int]) -> Iterator[str]:
    groups = {(k, D): [(k, D, s) for s in candidates(k, score(FEW, D, "cuda"))] for k in kernels for D in dimensions}
    cases = [case for group in groups.values() for case in group]
    # Not forked: this process asks the device what it is.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        why = dict(zip(cases, pool.map(compiled, cases), strict=True))
    yield f"# Tiles on {torch.cuda.get_device_name()}\n\n{ROWS:,} rows and columns, bf16; ms, and TFLOP/s of the products.\n"
    yield "| kernel | D | shapes |\n|---|---|---|"
    for (kernel, D), group in groups.items():
        times = {case: milliseconds(call(case, ROWS)) for case in group if not why[case]}
        table, flops = group[0], KERNELS[kernel] * 2 * ROWS**2 * D
        cells = []
        for case in sorted(times, key=times.__getitem__):
            rows, cols, warps, stages, _ = case[2]
            text = f"{rows}×{cols} {warps} {stages}: {times[case]:.2f} ({flops / times[case] / 1e9:.0f})"
            cells.append(f"**{text}**" if case == table else text)
        yield f"| {kernel} | {D} | {', '.join(cells)} |"


def main(arguments: list[str] | None = None) -> None:
    chosen = options(arguments)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    with chosen.out.open("w") as file:
        for line in lines(chosen.kernels, chosen.dimensions):
            print(line, flush=True)
            print(line, file=file, flush=True)


if __name__ == "__main__":
    main()
