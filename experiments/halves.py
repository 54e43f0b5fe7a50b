"""Encoders of half digits, and the order in which a training sees its pairs: what the trainings on MNIST halves share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import data, study

ROWS, COLUMNS = 14, 28
WIDTH, FEATURES = 512, 256
WARM_UP = 20  # steps, or a quarter of the training where that is less


class Encoder(nn.Module):
    """Half a digit (n, 392) → features (n, 256), which a probe reads → embedding (n, dim), which a loss compares.

    norm  nn.BatchNorm1d, on which the distillation objectives rely, or nn.LayerNorm, which no other row of a batch changes
    """

    def __init__(self, dim: int, norm: type[nn.BatchNorm1d] | type[nn.LayerNorm]) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Linear(ROWS * COLUMNS, WIDTH),
            norm(WIDTH),
            nn.ReLU(),
            nn.Linear(WIDTH, FEATURES),
            norm(FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Linear(FEATURES, FEATURES), norm(FEATURES), nn.ReLU(), nn.Linear(FEATURES, dim))

    def forward(self, view: Tensor) -> Tensor:
        """(n, 392) → (n, dim)."""
        return self.head(self.features(view))


def shifted(view: Tensor) -> Tensor:
    """Each half digit moved at random by up to a pixel each way."""
    padded = F.pad(view.view(-1, ROWS, COLUMNS), (1, 1, 1, 1))
    moves = torch.randint(9, (len(view),))
    out = torch.empty(len(view), ROWS, COLUMNS)
    for move in range(9):
        down, right = divmod(move, 3)
        chosen = (moves == move).nonzero().squeeze(1)
        out[chosen] = padded[chosen, down : down + ROWS, right : right + COLUMNS]
    return out.view(len(view), -1)


def batches(images: Tensor, size: int, steps: int) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """`steps` times the indices (size,) of a batch, and its two shifted halves. Each pass has an order of its own."""
    order = torch.empty(0, dtype=torch.long)
    for _ in study.steps(steps):
        while len(order) < size:
            order = torch.cat([order, torch.randperm(len(images))])
        chosen, order = order[:size], order[size:]
        yield chosen, [shifted(view) for view in data.halves(images[chosen])]


def scheduled(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up, then half a cosine to 0."""
    rise = max(1, min(WARM_UP, steps // 4))

    def factor(step: int) -> float:
        return min(1, (step + 1) / rise) * (1 + math.cos(math.pi * step / steps)) / 2

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


@torch.no_grad()
def center(encoders: nn.ModuleList, views: Sequence[Tensor]) -> None:
    """Shift embeddings so that those of `views` have mean 0, before a training without batch normalisation.

    Embeddings of a fresh network lie close together, each view's in a place of its own. A loss first brings the two places
    together, and a training of a few steps can end there.
    """
    for encoder, view in zip(encoders, views, strict=True):
        last = encoder.head[-1]  # pyright: ignore[reportIndexIssue]
        last.bias -= encoder(view).mean(dim=0)  # pyright: ignore[reportOperatorIssue, reportAttributeAccessIssue]


@torch.no_grad()
def features_of(encoder: Encoder, images: Tensor) -> Tensor:
    """Features (n, 256) of top halves, in the encoder's mode."""
    return torch.cat([encoder.features(data.halves(part)[0]) for part in images.split(2000)])
