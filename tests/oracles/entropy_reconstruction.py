"""The ER bound, SwAV, BYOL, DINO and their ER forms, 0-d each, by plain matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from . import density
from .precision import inner_products, unit, unit_embeddings

Width = float | Tensor
Views = Sequence[Tensor]


def log_q(z1: Tensor, z2: Tensor, *, concentration: Width | None = None, bandwidth: Width | None = None) -> Tensor:
    """(N,): log density of z2_i, von Mises–Fisher about the direction of z1_i, or normal about z1_i."""
    D = z1.shape[1]
    if concentration is not None:
        cosine = (unit(z1) * unit(z2)).sum(dim=1)
        area = density.log_hyp0f1_of_half_square(D / 2, concentration, z1)
        return concentration * cosine - density.log_sphere_area(D) - area
    h = torch.as_tensor(bandwidth, dtype=z1.dtype).expand(D)
    return (-0.5 * ((z2 - z1) / h).square() - h.log() - 0.5 * math.log(2 * math.pi)).sum(dim=1)


def er_bound(z1: Tensor, z2: Tensor, *, q: dict, symmetric: bool = False, **width) -> tuple[Tensor, Tensor, Tensor]:
    """Entropy of z2 plus the mean log q, and these two."""
    entropy = density.kde_entropy(z2, **width)
    if symmetric:
        entropy = 0.5 * entropy + 0.5 * density.kde_entropy(z1, **width)
    reconstruction = log_q(z1, z2, **q).mean()
    return entropy + reconstruction, entropy, reconstruction


def scores(z: Tensor, prototypes: Tensor, temperature: Width) -> Tensor:
    """(N, K): cosines, if prototypes are unit rows, over the temperature."""
    return inner_products(unit_embeddings(z), prototypes) / temperature


def entropy_of_mean(s: Tensor) -> Tensor:
    """The entropy of the mean of the rows' softmax, in which 0 log 0 is 0."""
    log_mean = s.log_softmax(dim=1).logsumexp(dim=0) - math.log(len(s))
    return -(log_mean.exp() * log_mean).sum()


def cross_entropy(target: Tensor, s: Tensor) -> Tensor:
    """mean_i −Σ_k target_ik log softmax_k(s_i)."""
    return -(target * s.log_softmax(dim=1)).sum(dim=1).mean()


def discrete_bound(
    z1: Tensor, z2: Tensor, prototypes: Tensor, *, temperature: Width, target_temperature: Width
) -> tuple[Tensor, Tensor, Tensor]:
    """Entropy of the mean assignment of z2, minus the cross entropy of its assignments with those of z1."""
    of_target = scores(z2, prototypes, target_temperature)
    entropy = entropy_of_mean(of_target)
    reconstruction = -cross_entropy(of_target.softmax(dim=1), scores(z1, prototypes, temperature))
    return entropy + reconstruction, entropy, reconstruction


def codes(s: Tensor, iterations: int) -> Tensor:
    """Sinkhorn: columns and rows of e^s are divided by their sums in turn, in logarithms."""
    for _ in range(iterations):
        s = s - s.logsumexp(dim=0, keepdim=True)
        s = s - s.logsumexp(dim=1, keepdim=True)
    return s.exp()


def swapped(targets: Views, of_views: Views) -> Tensor:
    """The mean cross entropy of target t with the scores of view v ≠ t."""
    pairs = [cross_entropy(q, s) for t, q in enumerate(targets) for v, s in enumerate(of_views) if v != t]
    return torch.stack(pairs).mean()


def swav(
    views: Views,
    prototypes: Tensor,
    *,
    local: Views = (),
    queue: Views | None = None,
    temperature: Width = 0.1,
    epsilon: Width = 0.05,
    iterations: int = 3,
) -> Tensor:
    with torch.no_grad():
        samples = views if queue is None else [torch.cat(both) for both in zip(views, queue, strict=True)]
        targets = [codes(scores(z, prototypes, epsilon), iterations)[: len(views[0])] for z in samples]
    return swapped(targets, [scores(z, prototypes, temperature) for z in [*views, *local]])


def swav_er(
    views: Views, prototypes: Tensor, *, local: Views = (), temperature: Width = 0.1, epsilon: Width = 0.05
) -> Tensor:
    of_codes = [scores(z, prototypes, epsilon) for z in views]
    entropy = torch.stack([entropy_of_mean(s) for s in of_codes]).mean()
    targets = [s.detach().softmax(dim=1) for s in of_codes]
    return swapped(targets, [scores(z, prototypes, temperature) for z in [*views, *local]]) - entropy


def byol(predictions: Views, targets: Views) -> Tensor:
    pairs = [
        (unit(p) - unit(t.detach())).square().sum(dim=1).mean()
        for n, t in enumerate(targets)
        for v, p in enumerate(predictions)
        if v != n
    ]
    return torch.stack(pairs).mean()


def byol_er(predictions: Views, targets: Views, *, concentration: Width, projections: Views | None = None) -> Tensor:
    pairs = [
        log_q(p, t.detach(), concentration=concentration).mean()
        for n, t in enumerate(targets)
        for v, p in enumerate(predictions)
        if v != n
    ]
    sample = predictions if projections is None else projections
    entropies = [density.kde_entropy(z, kernel="vmf", concentration=concentration) for z in sample]
    return -torch.stack(pairs).mean() - torch.stack(entropies).mean()


def dino(
    students: Views,
    teachers: Views,
    prototypes: Tensor,
    teacher_prototypes: Tensor,
    *,
    center: Tensor | float = 0.0,
    temperature: Width = 0.1,
    teacher_temperature: Width = 0.04,
) -> Tensor:
    with torch.no_grad():
        slow = [scores(z, teacher_prototypes, 1.0) for z in teachers]
        targets = [((s - center) / teacher_temperature).softmax(dim=1) for s in slow]
    return swapped(targets, [scores(z, prototypes, temperature) for z in students])


def dino_er(
    students: Views,
    teachers: Views,
    prototypes: Tensor,
    teacher_prototypes: Tensor,
    *,
    temperature: Width = 0.1,
    teacher_temperature: Width = 0.04,
) -> Tensor:
    widths = {"temperature": temperature, "teacher_temperature": teacher_temperature}
    own = students[: len(teachers)]
    entropies = [entropy_of_mean(scores(z, prototypes, teacher_temperature)) for z in own]
    return dino(students, teachers, prototypes, teacher_prototypes, **widths) - torch.stack(entropies).mean()
