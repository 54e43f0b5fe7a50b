"""What training changes in a representation: handwritten digits as pixels, and after NT-Xent on noisy views of them.

The table holds each number against one that is easy to read: even directions, the largest class, the cap log N.
Labels judge; they do not train. A second argument of `main` names a file for the figure.

    python examples/evaluate.py
"""

import sys

import torch
from sklearn.datasets import load_digits

import jessl_kernels as jk


def main(steps: int = 300, figure: str | None = None) -> tuple:
    """The evaluations before and after the training."""
    torch.manual_seed(0)
    pixels, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
    pixels = pixels.float() / 16 - 0.3
    encoder = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 64))
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-3)

    views = [pixels + 0.3 * torch.randn_like(pixels) for _ in range(2)]
    before = jk.evaluate(views[0], labels, views[1])
    for _ in range(steps):
        optimizer.zero_grad()
        z1, z2 = (encoder(pixels + 0.3 * torch.randn_like(pixels)) for _ in range(2))
        jk.nt_xent(z1, z2, temperature=0.2).backward()
        optimizer.step()
    after = jk.evaluate(encoder(views[0]), labels, encoder(views[1]))
    print(f"{before}\n\nafter {steps} steps\n\n{after}")  # after.to_dict() is for JSON
    if figure:
        after.plot(figure)
    return before, after


if __name__ == "__main__":
    main(figure=sys.argv[1] if len(sys.argv) > 1 else None)
