"""The matrix form of each problem, as one writes it in plain torch with care for speed.

In the dtype of its inputs it is a contender; in fp64 it is the truth that every contender is checked against.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE = 0.1
SCALE, BIAS = 10.0, -10.0
TILTS = (1.5, 0.5)
NEIGHBOURS = 10  # of top-k
NEAREST = 3  # of the estimators by nearest neighbours


def labels(N: int, device: torch.device | None = None) -> Tensor:
    """Classes of eight rows each."""
    return torch.arange(N, device=device) % max(N // 8, 1)


def captions(N: int, device: torch.device | None = None) -> Tensor:
    """Ids of pairs, of which two neighbours show the same item."""
    return torch.arange(N, device=device) // 2


def silverman(D: int, N: int) -> float:
    """The bandwidth of Silverman's rule for standard normal points."""
    return (N * (D + 2) / 4) ** (-1 / (D + 4))


def _without_diagonal(s: Tensor) -> Tensor:
    return s.masked_fill(torch.eye(len(s), dtype=torch.bool, device=s.device), -torch.inf)


def _cosines(x: Tensor, y: Tensor) -> Tensor:
    return F.normalize(x, dim=1) @ F.normalize(y, dim=1).T


def _own(x: Tensor) -> Tensor:
    return torch.arange(len(x), device=x.device)


def _two_views(z1: Tensor, z2: Tensor, temperature: float = TEMPERATURE) -> tuple[Tensor, Tensor]:
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    return _without_diagonal(z @ z.T / temperature), _own(z).roll(len(z1))


def info_nce(x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(_cosines(x, y) / TEMPERATURE, _own(x))


def clip_loss(x: Tensor, y: Tensor) -> Tensor:
    s = SCALE * x @ y.T
    return 0.5 * (F.cross_entropy(s, _own(x)) + F.cross_entropy(s.T, _own(x)))


def nt_xent(z1: Tensor, z2: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    return F.cross_entropy(*_two_views(z1, z2, temperature))


def dcl(z1: Tensor, z2: Tensor) -> Tensor:
    s, other = _two_views(z1, z2)
    positive = s.gather(1, other[:, None])
    return (s.scatter(1, other[:, None], -torch.inf).logsumexp(dim=1) - positive[:, 0]).mean()


def hard_negatives(z1: Tensor, z2: Tensor) -> Tensor:
    """N of tilt 1.5 minus N of tilt 0.5 minus the positive."""
    s, other = _two_views(z1, z2)
    positive = s.gather(1, other[:, None])
    s = s.scatter(1, other[:, None], -torch.inf)
    more, less = ((tilt * s).logsumexp(dim=1) for tilt in TILTS)
    return (more - less - positive[:, 0]).mean()


def sup_con(z1: Tensor, z2: Tensor) -> Tensor:
    s, _ = _two_views(z1, z2)
    label = labels(len(s), s.device)
    positive = (label[:, None] == label[None, :]) & ~torch.eye(len(s), dtype=torch.bool, device=s.device)
    log_p = s.log_softmax(dim=1)
    return -(log_p.masked_fill(~positive, 0.0).sum(dim=1) / positive.sum(dim=1)).mean()


def siglip_loss(x: Tensor, y: Tensor) -> Tensor:
    s = SCALE * x @ y.T + BIAS
    return F.softplus(torch.where(torch.eye(len(s), dtype=torch.bool, device=s.device), -s, s)).sum() / len(s)


def queue(query: Tensor, positive: Tensor, negatives: Tensor) -> Tensor:
    """MoCo's loss: the positive is the first of M + 1 classes."""
    query = F.normalize(query, dim=1)
    own = (query * F.normalize(positive, dim=1)).sum(dim=1, keepdim=True)
    s = torch.cat([own, query @ F.normalize(negatives.detach(), dim=1).T], dim=1) / TEMPERATURE
    return F.cross_entropy(s, torch.zeros(len(s), dtype=torch.long, device=s.device))


def shared_captions(x: Tensor, y: Tensor) -> Tensor:
    """InfoNCE whose targets are shared evenly by all keys of the query's id."""
    log_p, ids = (_cosines(x, y) / TEMPERATURE).log_softmax(dim=1), captions(len(x), x.device)
    same = ids[:, None] == ids[None, :]
    return -(log_p.masked_fill(~same, 0.0).sum(dim=1) / same.sum(dim=1)).mean()


def _log_kernel(x: Tensor, y: Tensor, h: float) -> Tensor:
    square_x, square_y = x.square().sum(dim=1), y.square().sum(dim=1)
    return (2 * x @ y.T - square_x[:, None] - square_y[None, :]) / (2 * h * h)


def _log_normaliser(D: int, h: float) -> float:
    return D * math.log(h) + 0.5 * D * math.log(2 * math.pi)


def kde_entropy(z: Tensor, bandwidth: float | None = None) -> Tensor:
    N, D = z.shape
    h = bandwidth or silverman(D, N)
    return -_without_diagonal(_log_kernel(z, z, h)).logsumexp(dim=1).mean() + math.log(N - 1) + _log_normaliser(D, h)


def kde_value(z: Tensor) -> Tensor:
    """Every point counts itself."""
    N, D = z.shape
    h = silverman(D, N)
    return -_log_kernel(z, z, h).logsumexp(dim=1).mean() + math.log(N) + _log_normaliser(D, h)


def kde_log_density(query: Tensor, data: Tensor) -> Tensor:
    N, D = data.shape
    h = silverman(D, N)
    return _log_kernel(query, data, h).logsumexp(dim=1).mean() - math.log(N) - _log_normaliser(D, h)


def kde_score(query: Tensor, data: Tensor) -> Tensor:
    h = silverman(data.shape[1], len(data))
    return ((_log_kernel(query, data, h).softmax(dim=1) @ data - query) / h**2).square().mean()


def kde_mutual_information(x: Tensor, y: Tensor) -> Tensor:
    h = silverman(2 * x.shape[1], len(x))
    return kde_entropy(x, h) + kde_entropy(y, h) - kde_entropy(torch.cat([x, y], dim=1), h)


def renyi2_entropy(z: Tensor) -> Tensor:
    N, D = z.shape
    h = 2**0.5 * silverman(D, N)
    s = _without_diagonal(_log_kernel(z, z, h))
    return math.log(N * (N - 1)) + _log_normaliser(D, h) - s.flatten().logsumexp(dim=0)


def koleo(z: Tensor) -> Tensor:
    z = F.normalize(z, dim=1)
    with torch.no_grad():
        nearest = _without_diagonal(z @ z.T).argmax(dim=1)
    return -((z - z[nearest]).norm(dim=1) + 1e-8).log().mean()


def attend(x: Tensor, y: Tensor, v: Tensor) -> Tensor:
    return ((x @ y.T * x.shape[1] ** -0.5).softmax(dim=1) @ v).square().mean()


def soft_cross_entropy(x: Tensor, y: Tensor, target_x: Tensor, target_y: Tensor) -> Tensor:
    x, y, target_x, target_y = (F.normalize(t, dim=1) for t in (x, y, target_x, target_y))
    target = (target_x @ target_y.T / TEMPERATURE).softmax(dim=1)
    return -(target * (x @ y.T / TEMPERATURE).log_softmax(dim=1)).sum(dim=1).mean()


def uniformity(x: Tensor) -> Tensor:
    s = _without_diagonal(4 * _log_kernel(x, x, 1.0))
    return s.flatten().logsumexp(dim=0) - math.log(len(x) * (len(x) - 1))


def alignment(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square().sum(dim=1).mean()


def logsumexp_of_both(x: Tensor, y: Tensor) -> Tensor:
    """Upstream gradients differ from row to row."""
    s = SCALE * x @ y.T
    return s.logsumexp(dim=1).square().mean() + s.logsumexp(dim=0).square().mean()


def sum_of_softplus(x: Tensor, y: Tensor) -> Tensor:
    return F.softplus(SCALE * x @ y.T).sum(dim=1).square().mean()


def sums_of_rows(x: Tensor, y: Tensor) -> Tensor:
    return (SCALE * x @ y.T).logsumexp(dim=1).mean()


def topk(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T).topk(NEIGHBOURS, dim=1).values.mean()


def recall(x: Tensor, y: Tensor) -> Tensor:
    """The sum of both directions' mean ranks: recalls are shares of them, and say less of an error."""
    s = x @ y.T
    own = s.diagonal()
    above = (s > own[:, None]).sum(dim=1), (s > own[None, :]).sum(dim=0)
    return sum((1 + ranks.to(s.dtype).mean() for ranks in above), start=s.new_zeros(()))


def _distances(x: Tensor, power: float) -> Tensor:
    d = torch.cdist(x, x, p=power, compute_mode="donot_use_mm_for_euclid_dist")
    return d.fill_diagonal_(torch.inf)


def _digamma(n: float) -> float:
    return float(torch.digamma(torch.tensor(n, dtype=torch.float64)))


def entropy_of_radii(radius: Tensor, D: int) -> Tensor:
    """Kozachenko and Leonenko's estimate from the distances of the neighbours of N points."""
    log_ball = 0.5 * D * math.log(math.pi) - math.lgamma(D / 2 + 1)
    return _digamma(len(radius)) - _digamma(NEAREST) + log_ball + D * radius.double().log().mean()


def knn_entropy(z: Tensor) -> Tensor:
    return entropy_of_radii(_distances(z, 2.0).kthvalue(NEAREST, dim=1).values, z.shape[1])


def ksg(x: Tensor, y: Tensor) -> Tensor:
    dx, dy = _distances(x, torch.inf), _distances(y, torch.inf)
    radius = torch.maximum(dx, dy).kthvalue(NEAREST, dim=1, keepdim=True).values
    nx, ny = (torch.digamma((d < radius).sum(dim=1).double() + 1) for d in (dx, dy))
    return _digamma(NEAREST) + _digamma(len(x)) - (nx + ny).mean()
