"""CLIP (arXiv 2103.00020): two encoders of two kinds of input, and a scale of the scores that is learnt with them.

"Images" and "texts" are two linear pictures of the same hidden item. The scale starts at CLIP's 1 / 0.07 and finds its own value.

    python examples/clip.py
"""

import torch
from torch import nn

import jessl_kernels as jk


def main(steps: int = 80) -> tuple[float, float]:
    """Recall of the text of an image among 256, and the scale, after training."""
    torch.manual_seed(0)
    seen, written = (torch.randn(8, width) for width in (48, 32))

    def pairs() -> list[torch.Tensor]:
        items = torch.randn(256, 8)
        return [p + 2.0 * torch.randn(p.shape) for p in (items @ seen, items @ written)]

    towers = nn.ModuleList([nn.Linear(48, 16), nn.Linear(32, 16)])
    clip = jk.nn.CLIP(normalize=True)
    optimizer = torch.optim.Adam([*towers.parameters(), *clip.parameters()], lr=2e-2)
    for _ in range(steps):
        image, text = (tower(batch) for tower, batch in zip(towers, pairs(), strict=True))
        loss = clip(image, text)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x, y = (nn.functional.normalize(tower(batch), dim=1) for tower, batch in zip(towers, pairs(), strict=True))
    found, scale = jk.retrieval_metrics(x, y, k=1)["x_to_y/recall@1"].item(), clip.logit_scale.item()
    print(f"the text is found for {found:.0%} of 256 new images; the scale went from {1 / 0.07:.1f} to {scale:.1f}")
    return found, scale


if __name__ == "__main__":
    main()
