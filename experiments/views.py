"""Two views of an image, of equal dimension, and the plain input on which a probe reads the encoder of the first view.

halves      top and bottom half, as in Tschannen et al.; the probe reads the top half
crops       two random crops and shifts of the whole image at half its height; the probe reads that image uncropped
same_class  two images of one class at half their height: I(X; Y) ≤ H(class) = log 10 nats, and nearly that

Each view of a 28 × 28 image has 14 × 28 = 392 numbers in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import data
from .data import Images

LEAST_CROP, REACH = 0.7, 0.15  # of the image's side: the smallest crop, and how far it may reach outside
Pair = tuple[Tensor, Tensor]


class Views(NamedTuple):
    """pairs  (indices (n,) of the set's images, generator) → x, y (n, D)
    plain  what the probe reads, (N, D)
    """

    pairs: Callable[[Tensor, torch.Generator], Pair]
    plain: Tensor


def of(name: str, images: Images) -> Views:
    """The views of a set of images by their name."""
    return {"halves": _halves, "crops": _crops, "same_class": _same_class}[name](images)


def flat(images: Tensor) -> Tensor:
    """At half the height, (N, H·W/2) float32 in [0, 1]: pairs of rows are averaged."""
    N, H, W = images.shape
    return images.view(N, H // 2, 2, W).float().mean(dim=2).reshape(N, -1) / 255


def cropped(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image (n, H, W) seen through a random square window, at half the height, (n, H·W/2) float32."""
    n, H, W = images.shape
    side = LEAST_CROP + (1 - LEAST_CROP) * torch.rand(n, generator=generator)
    shift = (2 * torch.rand(n, 2, generator=generator) - 1) * (1 - side + REACH)[:, None]
    window = torch.zeros(n, 2, 3)
    window[:, 0, 0], window[:, 1, 1], window[:, :, 2] = side, side, shift
    grid = F.affine_grid(window, [n, 1, H, W], align_corners=False)
    seen = F.grid_sample(images[:, None].float(), grid, align_corners=False)[:, 0]
    return seen.view(n, H // 2, 2, W).mean(dim=2).reshape(n, -1) / 255


def _halves(images: Images) -> Views:
    top, bottom = data.halves(images.images)
    return Views(lambda i, _: (top[i], bottom[i]), top)


def _crops(images: Images) -> Views:
    def pairs(i: Tensor, generator: torch.Generator) -> Pair:
        return cropped(images.images[i], generator), cropped(images.images[i], generator)

    return Views(pairs, flat(images.images))


def _same_class(images: Images) -> Views:
    plain = flat(images.images)
    order = images.labels.argsort(stable=True)
    sizes = images.labels.bincount()
    starts = sizes.cumsum(0) - sizes

    def pairs(i: Tensor, generator: torch.Generator) -> Pair:
        label = images.labels[i]
        place = (torch.rand(len(i), generator=generator, dtype=torch.float64) * sizes[label]).long()
        return plain[i], plain[order[starts[label] + place]]

    return Views(pairs, plain)
