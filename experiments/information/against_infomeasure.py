# /// script
# requires-python = ">=3.10"
# dependencies = ["infomeasure==0.6.3", "jessl_kernels", "torch>=2.11"]
# ///
"""KSG and k-nearest-neighbour entropy beside infomeasure: equal numbers, and the time of each.

    python experiments/information/against_infomeasure.py 8000x1 8000x3 8000x8
    python experiments/information/against_infomeasure.py 100000x8 --rounds 1 --alone     # ours only

A size is N×D: correlated Gaussians, D dimensions a side, with 2 nats between them. Both run in turn, infomeasure as it comes
but for its noise, which is off so that the numbers can be equal. Times are medians in seconds; a ratio is the median over
rounds of theirs over ours. infomeasure is licensed under the AGPL and is only called.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

import jessl_kernels as jk

INFORMATION, K = 2.0, 3


def gaussians(N: int, D: int) -> tuple[Tensor, Tensor]:
    """Pairs in D dimensions a side, alike in every dimension."""
    rho = math.sqrt(1 - math.exp(-2 * INFORMATION / D))
    x, noise = torch.randn(2, N, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def calls(x: Tensor, y: Tensor, alone: bool) -> dict[str, list[Callable[[], float]]]:
    """Of each quantity our call, and unless `alone` infomeasure's."""
    of = {
        "ksg": [lambda: float(jk.mi.ksg(x, y, k=K))],
        "knn_entropy, max": [lambda: float(jk.knn_entropy(x, k=K, norm="max"))],
        "knn_entropy, euclidean": [lambda: float(jk.knn_entropy(x, k=K))],
    }
    if not alone:
        import infomeasure  # pyright: ignore[reportMissingImports]

        a, b, options = x.numpy(), y.numpy(), {"k": K, "noise_level": 0}
        of["ksg"].append(lambda: infomeasure.mutual_information(a, b, approach="ksg", **options))
        for norm, p in (("max", math.inf), ("euclidean", 2)):
            of[f"knn_entropy, {norm}"].append(
                lambda p=p: infomeasure.entropy(a, approach="metric", minkowski_p=p, **options)
            )
    return of


def timed(call: Callable[[], float]) -> tuple[float, float]:
    """The value of a call, and its seconds."""
    start = time.perf_counter()
    value = call()
    return float(value), time.perf_counter() - start


def main() -> None:
    """Print a line for each size and quantity."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sizes", nargs="+", help="N×D as 8000x8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="without infomeasure")
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads")
    for size in options.sizes:
        N, D = map(int, size.split("x"))
        for name, both in calls(*gaussians(N, D), options.alone).items():
            rounds = [[timed(call) for call in both] for _ in range(options.rounds)]
            values = [value for value, _ in rounds[0]]
            seconds = [statistics.median(s for _, s in column) for column in zip(*rounds, strict=True)]
            line = f"N = {N:,}  {D} + {D}  {name:<22}  {values[0]:.6f}  {seconds[0]:.3g} s"
            if not options.alone:
                ratio = statistics.median(theirs / ours for (_, ours), (_, theirs) in rounds)
                apart = abs(values[0] - values[1])
                line += f"  infomeasure {seconds[1]:.3g} s, ×{ratio:.1f}, numbers apart by {apart:.1g}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
