"""A network trained with labels: what a representation has for a classifier that is not linear."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import study
from .probe import standardised

BATCH, RATE, WIDTH = 128, 1e-3, 512


def predicted(train: Tensor, labels: Tensor, test: Tensor, *, epochs: int, seed: int) -> Tensor:
    """Classes (M,) of test (M, D) by an MLP with two hidden layers, trained on the standardised columns of train (N, D)."""
    torch.manual_seed(seed)
    train, test = standardised(train, test)
    net = nn.Sequential(
        nn.Linear(train.shape[1], WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(),
        nn.Linear(WIDTH, int(labels.max()) + 1),
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE, fused=True)
    for _ in study.steps(epochs, "epochs, supervised"):
        for i in torch.randperm(len(train)).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(net(train[i]), labels[i]).backward()
            optimizer.step()
    with torch.no_grad():
        return net(test).argmax(1)


def accuracy(found: Tensor, labels: Tensor) -> float:
    """Share of equal classes."""
    return (found == labels).double().mean().item()


def shared_information(found: Tensor, labels: Tensor) -> float:
    """I(A; B) in nats, of the predicted classes A and B of two images of one class.

    Given the class the images are independent, so p(a, b) = Σ_c p(c) p(a|c) p(b|c). Since A and B are made of the images, it is
    a lower bound on the information of the images; the class's entropy is an upper bound.
    """
    classes = int(labels.max()) + 1
    counts = (labels * classes + found).bincount(minlength=classes**2).view(classes, classes).double()
    p_class, p_found = counts.sum(1) / counts.sum(), counts / counts.sum(1, keepdim=True)
    joint = torch.einsum("c,ca,cb->ab", p_class, p_found, p_found)
    margin = joint.sum(0)
    return torch.special.xlogy(joint, joint / (margin[:, None] * margin).clamp_min(1e-300)).sum().item()
