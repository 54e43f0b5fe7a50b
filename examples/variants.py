"""Variants of a contrastive loss that people ask for, ten lines each, on the sums of one sweep over the scores.

    python examples/variants.py

Every backend computes them, except `guided_info_nce`, which only "chunked" and "reference" compute.
"""

import torch
from torch.nn.functional import softplus

import jessl_kernels as jk

Tensor = torch.Tensor


def smoothed_info_nce(query: Tensor, key: Tensor, *, smoothing: float = 0.1, temperature: float = 0.07) -> Tensor:
    """Label smoothing: the targets are 1 − ε for the own key, and ε shared by all K ≥ 2 keys (`label_smoothing` of torch).

    Σ_j (L − s_ij) over the negatives is (K − 1)((L − N) + N − mean s), L the log-sum-exp of all keys.
    """
    sums = jk.row_sums(query, key, positives=0, negative_spread=True, scale=1 / temperature, normalize=True)
    N, P = sums.N[0], sums.P
    own, other = softplus(N - P), softplus(P - N) + sums.negative_spread
    return ((1 - smoothing) * own + smoothing / len(key) * (own + (len(key) - 1) * other)).mean()


def hardness_weighted_info_nce(
    query: Tensor, key: Tensor, *, strength: float = 1.0, temperature: float = 0.07
) -> Tensor:
    """Negatives at s + a·sg(s): a harder negative weighs more, and its score keeps the slope of s."""

    def join(N, P, spread, n_pos, n_neg):
        scaled = N[0] / (1 + strength)
        return softplus(scaled + (N[0] - scaled).detach() - P)

    options = {"scale": 1 / temperature, "normalize": True, "tilts": (1 + strength,)}
    return jk.row_loss(query, key, join=join, positives=0, **options)


def weighted_info_nce(query: Tensor, key: Tensor, weight: Tensor, *, temperature: float = 0.07) -> Tensor:
    """Keys with weight w_j as negatives and 1 as positives: the bias log w_j moves both, and is subtracted from the positive."""
    bias = weight.log()

    def join(N, P, spread, n_pos, n_neg, own):
        return softplus(N[0] - (P - own))

    options = {"col_bias": bias, "params": (bias,), "scale": 1 / temperature, "normalize": True}
    return jk.row_loss(query, key, join=join, positives=0, **options)


def corrected_info_nce(query: Tensor, key: Tensor, probability: Tensor, *, temperature: float = 0.07) -> Tensor:
    """Keys weighted by 1 / q_j, because frequent keys are frequent negatives (the log q correction of two-tower models)."""
    bias = -probability.log()
    return jk.row_loss(query, key, join="softplus", positives=0, col_bias=bias, scale=1 / temperature, normalize=True)


def dclw(z1: Tensor, z2: Tensor, *, sigma: float = 0.5, temperature: float = 0.1) -> Tensor:
    """DCL whose positives have weights w_i = 2 − e^{⟨z1_i, z2_i⟩/σ} / mean (arXiv 2110.06848, eq. 7)."""
    cosine = torch.nn.functional.cosine_similarity(z1, z2).detach()
    weight = (2 - (cosine / sigma).softmax(dim=0) * len(z1)).repeat(2)

    def join(N, P, spread, n_pos, n_neg, w):
        return N[0] - w * P

    options = {"exclude": "diagonal", "scale": 1 / temperature, "normalize": True, "params": (weight,)}
    return jk.row_loss([z1, z2], join=join, positives=len(z1), **options)


def batched_info_nce(query: Tensor, key: Tensor, *, temperature: float = 0.07) -> Tensor:
    """B problems of N rows, (B, N, D), as one: pairs of different problems are excluded. Their scores are computed all the same,
    B times as many, so many small problems gain, and a few large ones should be called one by one."""
    problem = torch.arange(len(query), device=query.device).repeat_interleave(query.shape[1])
    apart = jk.Exclude(different=(problem, problem))
    options = {"exclude": apart, "scale": 1 / temperature, "normalize": True}
    return jk.row_loss(query.flatten(0, 1), key.flatten(0, 1), join="softplus", positives=0, **options)


def guided_info_nce(
    query: Tensor,
    key: Tensor,
    guide_query: Tensor,
    guide_key: Tensor,
    *,
    margin: float = 0.0,
    temperature: float = 0.07,
) -> Tensor:
    """No key is a negative that a guide, another model, finds closer to the query than its own (GISTEmbed, arXiv 2402.16829)."""
    g, h = (torch.nn.functional.normalize(z, dim=1) for z in (guide_query, guide_key))
    threshold = (g * h).sum(dim=1) - margin + 1e-6  # scores round: a duplicate of the own key is not closer
    options = {"exclude": jk.Exclude(guide=(g, h, threshold)), "scale": 1 / temperature, "normalize": True}
    return jk.row_loss(query, key, join="softplus", positives=0, **options)


def main() -> None:
    """Each loss on two noisy views of 256 items."""
    generator = torch.Generator().manual_seed(0)
    items = torch.randn(256, 32, generator=generator)
    x, y = (items + 0.5 * torch.randn(256, 32, generator=generator) for _ in range(2))
    x.requires_grad_()
    sampled = torch.full((256,), 1 / 256)
    losses = {
        "InfoNCE": jk.info_nce(x, y),
        "label smoothing": smoothed_info_nce(x, y),
        "hardness weighting": hardness_weighted_info_nce(x, y),
        "weights": weighted_info_nce(x, y, torch.linspace(0.5, 2.0, 256)),
        "log q correction": corrected_info_nce(x, y, sampled),
        "DCLW": dclw(x, y),
        "8 problems of 32": batched_info_nce(x.view(8, 32, -1), y.view(8, 32, -1)),
        "a guide": guided_info_nce(x, y, items, items),
    }
    for name, loss in losses.items():
        (gradient,) = torch.autograd.grad(loss, x)
        print(f"{name:18} loss {loss.item():8.4f}   gradient norm {gradient.norm().item():.4f}")


if __name__ == "__main__":
    main()
