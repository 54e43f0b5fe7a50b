"""SupCon (arXiv 2004.11362): rows of one label attract each other.

Of 64 dimensions 4 tell the label, the others are noise. The nearest neighbour of an embedding tells more.

    python examples/sup_con.py
"""

import torch

import jessl_kernels as jk


def main(steps: int = 60) -> tuple[float, float]:
    """How often the nearest neighbour by cosine has the same label: of new points, and of their embeddings."""
    torch.manual_seed(0)
    centers = torch.randn(10, 4)

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.randint(10, (512,))
        return torch.cat([3 * centers[labels] + 0.5 * torch.randn(512, 4), 2 * torch.randn(512, 60)], dim=1), labels

    def accuracy(rows: torch.Tensor, labels: torch.Tensor) -> float:
        nearest = jk.pairwise_topk(torch.nn.functional.normalize(rows, dim=1), exclude="diagonal")[1].squeeze(1)
        return (labels[nearest] == labels).float().mean().item()

    encoder = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 16))
    optimizer = torch.optim.Adam(encoder.parameters(), lr=3e-3)
    for _ in range(steps):
        points, labels = batch()
        optimizer.zero_grad()
        jk.sup_con(encoder(points), labels).backward()
        optimizer.step()
    points, labels = batch()  # new ones
    raw, learnt = (accuracy(rows, labels) for rows in (points, encoder(points)))
    print(f"the nearest neighbour has the same label for {raw:.0%} of new points, for {learnt:.0%} of their embeddings")
    return raw, learnt


if __name__ == "__main__":
    main()
