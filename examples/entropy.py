"""The entropy of embeddings by kernel density, for a sample whose entropy is known: N(0, diag σ²) in 8 dimensions.

    h = Σ_d ½ log(2π e σ_d²)

A rule for the bandwidth is a start. The bandwidth with the least leave-one-out entropy makes the points likeliest; here it
is learnt by gradient, one width for each dimension.

    python examples/entropy.py
"""

import math

import torch

import jessl_kernels as jk


def main(steps: int = 60) -> tuple[float, float, float]:
    """The closed form, the estimate by Silverman's rule, and that by a learnt bandwidth; in nats."""
    torch.manual_seed(0)
    sigma = torch.linspace(0.5, 2.0, 8)
    z = sigma * torch.randn(1024, 8)
    exact = (0.5 * math.log(2 * math.pi * math.e) + sigma.log()).sum().item()
    by_rule = jk.kde_entropy(z, bandwidth="silverman").item()

    log_h = z.std(dim=0).log().requires_grad_()
    optimizer = torch.optim.Adam([log_h], lr=0.1)
    for _ in range(steps):
        entropy = jk.kde_entropy(z, bandwidth=log_h.exp())
        optimizer.zero_grad()
        entropy.backward()
        optimizer.step()
    learnt = jk.kde_entropy(z, bandwidth=log_h.detach().exp()).item()
    print(f"closed form {exact:.2f} nats; Silverman's rule {by_rule:.2f}, learnt bandwidth {learnt:.2f}")
    return exact, by_rule, learnt


if __name__ == "__main__":
    main()
