"""A loss of one's own in a few lines: hard negatives, decoupled, and its uses.

    loss_i = log Σ_j e^{(1+β) s_ij} − log Σ_j e^{β s_ij} − s_{i, other view of i}        j over the negatives of row i

Each negative counts with the weight e^{β s}, so that the hardest pull most (Robinson et al., arXiv 2010.04592, without the
positive in the denominator as in DCL, arXiv 2110.06848; up to the constant log of the number of negatives).

    python examples/own_loss.py
"""

import torch

import jessl_kernels as jk


def hard_negative_loss(
    z1: torch.Tensor, z2: torch.Tensor, *, beta: float = 1.0, temperature: float = 0.1
) -> torch.Tensor:
    """The mean over the 2N rows of [z1; z2]: both sums come from one sweep over the scores."""
    return jk.row_loss(
        [z1, z2],
        join="tilt_difference",
        tilts=(1.0 + beta, beta),
        positives=len(z1),  # row i's positive is row i + N, its other view
        exclude="diagonal",
        scale=1.0 / temperature,
        normalize=True,
    )


def focal_info_nce(
    query: torch.Tensor, key: torch.Tensor, *, gamma: float = 2.0, temperature: float = 0.07
) -> torch.Tensor:
    """InfoNCE in which pairs that are found already count less (focal loss, arXiv 1708.02002): a join without a name.

    −(1 − p)^γ log p with log p = −softplus(N − P), the share of the positive among all keys.
    """

    def join(N, P, spread, n_pos, n_neg):
        log_p = -torch.nn.functional.softplus(N[0] - P)
        return -((-torch.expm1(log_p)) ** gamma) * log_p

    return jk.row_loss(query, key, join=join, positives=0, scale=1.0 / temperature, normalize=True)


def main() -> None:
    """Both losses on two noisy views of 512 items, and sums that are merged."""
    generator = torch.Generator().manual_seed(0)
    items = torch.randn(512, 64, generator=generator)
    z1, z2 = (items + 0.5 * torch.randn(512, 64, generator=generator) for _ in range(2))
    z1.requires_grad_()
    for name, loss in (("hard negatives", hard_negative_loss(z1, z2)), ("focal InfoNCE", focal_info_nce(z1, z2))):
        (gradient,) = torch.autograd.grad(loss, z1)
        print(f"{name:15} loss {loss.item():8.4f}   gradient norm {gradient.norm().item():.4f}")

    # Keys that come block by block, as from a queue on disk or from other processes: sums merge, and autograd follows.
    blocks = z2.split(128)
    first, *others = (jk.row_sums(z1, block, scale=10.0, normalize=True) for block in blocks)
    whole = jk.row_sums(z1, z2, scale=10.0, normalize=True)
    merged = first.merge(*others)
    print(f"merged sums     differ by {(merged.N[0] - whole.N[0]).abs().max().item():.1e} from those of one call")


if __name__ == "__main__":
    main()
