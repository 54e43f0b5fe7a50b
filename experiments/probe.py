"""What a linear classifier reads off a representation: accuracy, cross entropy, and usable information.

The V-information of Xu et al. (arXiv 2002.10689), with V the linear classifiers, is

    I_V(Z → Y) = H(Y) − H_V(Y|Z),     H_V(Y|Z) = the least mean of −log q(y|z) among softmax classifiers q

fitted on the training set and read on the test set, in nats. It is at most I(Y; Z), since no classifier has less cross entropy
than p(y|z). An invertible map of Z keeps I(Y; Z) and can change I_V.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

STEPS, L2 = 50, 1e-4
FLOOR = 0.01  # of the largest standard deviation: a pixel lit in a handful of images would be blown up to values in the hundreds


class Probe(NamedTuple):
    """Read on the test set."""

    accuracy: float
    cross_entropy: float  # nats
    label_entropy: float  # H(Y), nats

    @property
    def v_information(self) -> float:
        """H(Y) − H_V(Y|Z), nats; negative where the classifier is worse than the classes' frequencies."""
        return self.label_entropy - self.cross_entropy


def standardised(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Columns with mean 0 and standard deviation 1 on the training set."""
    mean, spread = train.mean(0), train.std(0)
    spread = spread.clamp_min(FLOOR * spread.max().item())
    return (train - mean) / spread, (test - mean) / spread


def probe(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, steps: int = STEPS) -> Probe:
    """Multinomial logistic regression on standardised columns (N, D), with the same penalty for all of them.

    steps  of L-BFGS; columns that nearly depend on each other want more
    """
    train, test = standardised(train, test)
    classes = int(train_labels.max()) + 1
    weight = torch.zeros(classes, train.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(train, weight, bias), train_labels) + L2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(objective)
    with torch.no_grad():
        logits = F.linear(test, weight, bias)
        accuracy = (logits.argmax(1) == test_labels).double().mean().item()
        return Probe(accuracy, F.cross_entropy(logits, test_labels).item(), entropy(test_labels))


def entropy(labels: Tensor) -> float:
    """H(Y) of the labels' frequencies, in nats."""
    p = labels.bincount().double() / len(labels)
    return -torch.special.xlogy(p, p).sum().item()
