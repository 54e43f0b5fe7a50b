"""Encoders of half an image that are not invertible: an MLP and a convolutional network, with 100 outputs each."""

from __future__ import annotations

import math

from torch import Tensor, nn

OUTPUTS, HIDDEN = 100, (300, 300)
CHANNELS = (32, 64)  # half of the paper's


def mlp(D: int) -> nn.Sequential:
    """D → 300 → 300 → 100, ReLU between them."""
    a, b = HIDDEN
    return nn.Sequential(nn.Linear(D, a), nn.ReLU(), nn.Linear(a, b), nn.ReLU(), nn.Linear(b, OUTPUTS))


class ConvNet(nn.Module):
    """Two convolutions 5 × 5 with stride 2, each with layer normalisation and ReLU, mean over places, linear.

    D  numbers of half a square image, W/2 × W
    """

    def __init__(self, D: int):
        super().__init__()
        W = math.isqrt(2 * D)
        self.shape, (a, b) = (1, W // 2, W), CHANNELS
        h, w = (W // 2 + 1) // 2, (W + 1) // 2
        self.net = nn.Sequential(
            nn.Conv2d(1, a, 5, stride=2, padding=2), nn.LayerNorm([a, h, w]), nn.ReLU(),
            nn.Conv2d(a, b, 5, stride=2, padding=2), nn.LayerNorm([b, (h + 1) // 2, (w + 1) // 2]), nn.ReLU(),
        )  # fmt: skip
        self.out = nn.Linear(b, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.net(x.view(-1, *self.shape)).mean(dim=(2, 3)))


ENCODERS = {"mlp": mlp, "conv": ConvNet}
