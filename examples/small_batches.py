"""Losses made for batches too small for InfoNCE, as joins of one's own: SogCLR, FlatNCE, debiased and spectral.

python examples/small_batches.py
"""

import math

import torch
from torch.nn.functional import softplus

import jessl_kernels as jk

Tensor = torch.Tensor


class SogCLR:
    """The global contrastive loss by a running estimate of each sample's sum over negatives (arXiv 2202.12387, algorithm 1).

        u_i ← (1 − γ) u_i + γ g_i,    g_i = mean_j e^{s_ij − s_ip};    the gradient is that of τ g_i / u_i

    A batch of 64 then has the gradient of a sum over the data set, which 64 negatives alone estimate badly.
    """

    def __init__(self, samples: int, *, gamma: float = 0.9, temperature: float = 0.1):
        self.log_u = torch.full((samples, 2), -math.inf)  # of both views; −∞ before a sample's first batch
        self.gamma, self.temperature = gamma, temperature

    def __call__(self, z1: Tensor, z2: Tensor, index: Tensor) -> Tensor:
        """(N, D), (N, D) views of the samples (N,) `index` → loss, whose gradient is what counts."""
        views = {"positives": len(z1), "exclude": "diagonal", "scale": 1 / self.temperature, "normalize": True}
        sums = jk.row_sums([z1, z2], **views)
        log_g = sums.N[0] - sums.n_neg.log() - sums.P
        now = log_g.detach().view(2, -1).T
        before = self.log_u[index]
        mixed = torch.logaddexp(before + math.log(1 - self.gamma), now + math.log(self.gamma))
        self.log_u[index] = torch.where(before == -math.inf, now, mixed)
        return self.temperature * (log_g - self.log_u[index].T.flatten()).exp().mean()


def flat_nce(z1: Tensor, z2: Tensor, *, temperature: float = 0.1) -> Tensor:
    """e^{d − sg(d)}, d = N − P: its value is always 1; its gradient is that of d, which no log flattens (arXiv 2107.01152)."""

    def join(N, P, spread, n_pos, n_neg):
        d = N[0] - P
        return (d - d.detach()).exp()

    views = {"positives": len(z1), "exclude": "diagonal", "scale": 1 / temperature, "normalize": True}
    return jk.row_loss([z1, z2], join=join, **views)


def debiased(z1: Tensor, z2: Tensor, *, prior: float = 0.1, temperature: float = 0.5) -> Tensor:
    """A share τ⁺ of the negatives is of the row's own class, and is subtracted from their mean (arXiv 2007.00224, eq. 8).

    g = max((mean_j e^{s_ij} − τ⁺ e^{s_ip}) / (1 − τ⁺), e^{−1/τ}) in logarithms; the loss is log(1 + n g e^{−s_ip}).
    """

    def join(N, P, spread, n_pos, n_neg):
        mean = N[0] - n_neg.log()
        share = (P - mean).exp() * prior  # the share that is subtracted from the mean
        left = torch.where(share < 1, torch.log1p(-share.clamp(max=1 - 1e-6)), -math.inf)
        log_g = (mean + left - math.log1p(-prior)).clamp(min=-1 / temperature)
        return softplus(n_neg.log() + log_g - P)

    views = {"positives": len(z1), "exclude": "diagonal", "scale": 1 / temperature, "normalize": True}
    return jk.row_loss([z1, z2], join=join, **views)


def spectral(z1: Tensor, z2: Tensor) -> Tensor:
    """−2 mean_i s_ii + mean_{i≠j} s_ij² (HaoChen et al., arXiv 2106.04156, eq. 6), in O(N·D²) by two D×D matrices."""
    own = (z1 * z2).sum(dim=1)
    squares = ((z1.T @ z1) * (z2.T @ z2)).sum()  # Σ_ij ⟨z1_i, z2_j⟩²
    return -2 * own.mean() + (squares - own.square().sum()) / (len(z1) * (len(z1) - 1))


def main() -> None:
    """Each loss on batches of 16 of 64 samples, for two epochs, in which SogCLR's estimates settle."""
    generator = torch.Generator().manual_seed(0)
    items = torch.randn(64, 16, generator=generator)
    sogclr = SogCLR(64)
    for step in range(8):
        index = torch.arange(16) + 16 * (step % 4)
        z1, z2 = (items[index] + 0.3 * torch.randn(16, 16, generator=generator) for _ in range(2))
        z1.requires_grad_()
        losses = {
            "SogCLR": sogclr(z1, z2, index),
            "FlatNCE": flat_nce(z1, z2),
            "debiased": debiased(z1, z2),
            "spectral": spectral(z1 / 4, z2 / 4),
        }
        norms = {name: torch.autograd.grad(loss, z1)[0].norm().item() for name, loss in losses.items()}
        print(f"step {step}   " + "   ".join(f"{name} {losses[name].item():.4f} ({norms[name]:.4f})" for name in norms))


if __name__ == "__main__":
    main()
