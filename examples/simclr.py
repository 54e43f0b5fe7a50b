"""SimCLR (arXiv 2002.05709): two noisy views of each item, one encoder, NT-Xent.

Items lie in 16 hidden dimensions of 64, under louder noise. A trained encoder finds the other view of an item by its cosine.

    python examples/simclr.py
"""

import torch
from torch import nn

import jessl_kernels as jk


def main(steps: int = 60) -> tuple[float, float]:
    """Recall of the other view among 256, before and after training."""
    torch.manual_seed(0)
    mixing = torch.randn(16, 64)

    def views() -> tuple[torch.Tensor, ...]:
        return (torch.randn(256, 16) @ mixing + 3.0 * torch.randn(2, 256, 64)).unbind()

    encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 16))
    optimizer = torch.optim.Adam(encoder.parameters(), lr=5e-3)
    held_out, found = views(), []
    for step in range(steps + 1):
        if step in (0, steps):
            x, y = (nn.functional.normalize(encoder(view), dim=1) for view in held_out)
            found.append(jk.retrieval_metrics(x, y, k=1)["x_to_y/recall@1"].item())
        loss = jk.nt_xent(*(encoder(view) for view in views()), temperature=0.2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"the other view is found for {found[0]:.0%} of 256 items before training, for {found[1]:.0%} after")
    return found[0], found[1]


if __name__ == "__main__":
    main()
