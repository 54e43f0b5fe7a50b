"""Kernels with a support: log densities of a sample at its own points, ours and by scikit-learn's tree, both in one run.

    python -m benchmarks.supports [--rows 100000] [--asked 300] [--rounds 2] [--dimensions 2 16]

The tree answers every point apart, so it is asked about some of them, and its time for all is that share's times N/asked.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from sklearn.neighbors import KernelDensity

import jessl_kernels as jk
from jessl_kernels.functional.bandwidth import rule_factor

NEIGHBOURS = 100


def width_with_neighbours(z: torch.Tensor) -> float:
    """The width at which a point has 100 neighbours, in the median of some points."""
    some = z[:: max(1, len(z) // 200)]
    return float(torch.cdist(some, z).topk(NEIGHBOURS + 1, largest=False).values[:, -1].median())


def least(run: Callable[[], object], rounds: int) -> float:
    """The least time of some calls, in seconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--asked", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[2, 16])
    asked = parser.parse_args()
    N, threads = asked.rows, torch.get_num_threads()
    print(f"{N} normal points, epanechnikov, {threads} threads (the tree has one); seconds for all points")
    for D in asked.dimensions:
        z = torch.randn(N, D, generator=torch.Generator().manual_seed(0))
        few = z[: asked.asked]
        for name, h in (
            ("Silverman's", rule_factor("silverman", N, D)),
            (f"{NEIGHBOURS} neighbours'", width_with_neighbours(z)),
        ):
            tree = KernelDensity(kernel="epanechnikov", bandwidth=h, algorithm="kd_tree").fit(z.double().numpy())
            of_tree = torch.tensor(tree.score_samples(few.double().numpy()))
            ours = jk.kde_log_density(z, z, bandwidth=h, kernel="epanechnikov")
            apart = float((ours[: len(few)].double().exp() / of_tree.exp() - 1).abs().max())
            theirs = (
                least(lambda tree=tree, few=few: tree.score_samples(few.double().numpy()), asked.rounds) * N / len(few)
            )
            mine = least(lambda z=z, h=h: jk.kde_log_density(z, z, bandwidth=h, kernel="epanechnikov"), asked.rounds)
            loo = least(lambda z=z, h=h: jk.kde_entropy(z, bandwidth=h, kernel="epanechnikov"), asked.rounds)
            print(
                f"D = {D:2}   {name:15} h = {h:.3f}   tree {theirs:8.2f}   ours {mine:6.2f}   ×{theirs / mine:5.1f}"
                f"   leave-one-out entropy {loo:6.2f}   densities apart by {apart:.0e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
