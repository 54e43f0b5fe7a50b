"""The mutual information of pairs whose information is known: Gaussian pairs in 4 dimensions with correlation ρ.

    I(X;Y) = −D/2 log(1 − ρ²)

A critic is trained on some of the pairs, and the bound is read off others. InfoNCE cannot pass log K, K the pairs of
a block. Kraskov's estimate by nearest neighbours needs no training; its bias grows with the dimensions.

    python examples/mutual_information.py
"""

import math

import torch

import jessl_kernels as jk


def main(max_steps: int = 600) -> tuple[float, jk.mi.Estimate, float]:
    """The closed form, InfoNCE's lower bound, and Kraskov's estimate; in nats."""
    torch.manual_seed(0)
    rho = 0.7
    x, noise = torch.randn(2, 5000, 4)
    y = rho * x + math.sqrt(1 - rho**2) * noise
    exact = -4 / 2 * math.log(1 - rho**2)

    found = jk.mi.estimate(x, y, "info_nce", batch_size=128, max_steps=max_steps)
    low, high = found.interval
    neighbours = jk.mi.ksg(x, y).item()
    print(found)  # found.plot("training.png") draws it, found.to_dict() is for JSON
    print(f"closed form {exact:.2f}; InfoNCE {found.value:.2f} ({low:.2f} to {high:.2f}); Kraskov {neighbours:.2f}")
    return exact, found, neighbours


if __name__ == "__main__":
    main()
