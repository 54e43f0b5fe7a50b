"""The registry of problems: each public operation beside its matrix form, and the batches that both are timed on.

N is the number of rows of the score matrix everywhere; n pairs make N = 2n rows where both views are rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import jessl_kernels as jk
from jessl_kernels.mi import ksg

from . import forms, information, trained
from .forms import BIAS, NEAREST, NEIGHBOURS, SCALE, TEMPERATURE, TILTS, captions, labels, silverman

CLUSTER_BANDWIDTH = 0.7
QUEUE = 65_536  # negatives

Answer = tuple[Tensor, list[Tensor]]  # the value, and the gradient by every batch


@dataclass(frozen=True)
class Problem:
    """ours, matrix  take the batches that `batches(N, D)` makes and return a scalar
    products  matrix products of 2·N·M·D flops that it takes in O(N·D) memory, gradient included if there is one
    kept      the same where scores may be kept, in O(N·M) memory
    covers    names of the package that it times
    columns   M, if not N
    gradient  whether the gradient by every batch is part of the problem
    skips     most of its pairs cannot matter: ours is timed with and without skipping them, and nobody else is
    """

    ours: Callable[..., Tensor]
    matrix: Callable[..., Tensor]
    batches: Callable[[int, int], list[Tensor]]
    products: float
    kept: float
    covers: tuple[str, ...]
    columns: int | None = None
    gradient: bool = True
    skips: bool = False

    def flops(self, N: int, D: int, *, kept: bool = False) -> float:
        return (self.kept if kept else self.products) * 2 * N * (self.columns or N) * D


def _normals(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def pairs(N: int, D: int) -> list[Tensor]:
    """N pairs: row i of both batches belong together."""
    x, noise = _normals(2, N, D)
    return [x, x + noise]


def unit_pairs(N: int, D: int) -> list[Tensor]:
    """The same as unit vectors, as open_clip's losses and ours with a logit scale want them."""
    return [F.normalize(t, dim=1) for t in pairs(N, D)]


def attended(N: int, D: int) -> list[Tensor]:
    """Queries, keys and values of the same width."""
    return [*pairs(N, D), _normals(N, D)]


def two_streams(N: int, D: int) -> list[Tensor]:
    """Unit pairs of a student, and of its teacher."""
    x, y = unit_pairs(N, D)
    return [x, y, *(F.normalize(t + 0.1 * _normals(N, D), dim=1) for t in (x, y))]


def views(N: int, D: int) -> list[Tensor]:
    """N/2 pairs, whose views together are N rows."""
    return pairs(N // 2, D)


def queued(N: int, D: int) -> list[Tensor]:
    return [*pairs(N, D), _normals(QUEUE, D)]


def points(N: int, D: int) -> list[Tensor]:
    return [_normals(N, D)]


def white_points(N: int, D: int) -> list[Tensor]:
    """Points whose sample covariance is the identity: scipy multiplies its bandwidth by that covariance."""
    z = _normals(N, D).double()
    z = z - z.mean(dim=0)
    factor = torch.linalg.cholesky(z.T @ z / (N - 1))
    return [torch.linalg.solve_triangular(factor, z.T, upper=False).T.float().contiguous()]


def unit_points(N: int, D: int) -> list[Tensor]:
    return [F.normalize(_normals(N, D), dim=1)]


def clusters(N: int, D: int) -> list[Tensor]:
    """Points around 100 centers, in random order; even in two dimensions most clusters lie apart."""
    centers, noise = 30 * _normals(100, D), _normals(N, D)
    return [centers[torch.randint(100, (N,), generator=torch.Generator().manual_seed(1))] + noise]


def _sup_con(z1: Tensor, z2: Tensor) -> Tensor:
    return jk.sup_con(torch.cat([z1, z2]), labels(2 * len(z1), z1.device), temperature=TEMPERATURE)


def _hard_negatives(z1: Tensor, z2: Tensor) -> Tensor:
    views = {"positives": len(z1), "exclude": "diagonal", "scale": 1 / TEMPERATURE, "normalize": True}
    return jk.row_loss([z1, z2], join="tilt_difference", tilts=TILTS, **views)


def _logsumexp_of_both(x: Tensor, y: Tensor) -> Tensor:
    row, col = jk.pairwise_logsumexp(x, y, scale=SCALE, dim="both")
    return row.square().mean() + col.square().mean()


def _recall(x: Tensor, y: Tensor) -> Tensor:
    found = jk.retrieval_metrics(x, y)
    return found["x_to_y/mean_rank"] + found["y_to_x/mean_rank"]


class _BySweeps(torch.autograd.Function):
    """The mean log-sum-exp, with the gradient of `row_grads`, as a program calls it that exchanges sums between processes."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, y: Tensor) -> Tensor:
        with torch.enable_grad():
            ctx.sums = jk.row_sums(x.detach().requires_grad_(), y.detach().requires_grad_(), scale=SCALE)  # pyright: ignore
        return ctx.sums.N[0].detach().mean()  # pyright: ignore

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, g: Tensor) -> tuple[Tensor | None, Tensor | None]:  # pyright: ignore
        N = len(ctx.sums.N[0])  # pyright: ignore
        (made,) = jk.row_grads(ctx.sums, N=(g / N).expand(N).contiguous())  # pyright: ignore
        return made.x[0], made.y[0]


def _entropy(z: Tensor, estimator: str = "loo") -> Tensor:
    return jk.kde_entropy(z, bandwidth=silverman(z.shape[1], len(z)), estimator=estimator)  # pyright: ignore


PROBLEMS = {
    "info_nce": Problem(
        lambda x, y: jk.info_nce(x, y, temperature=TEMPERATURE), forms.info_nce, pairs, 3, 3, ("info_nce",)
    ),
    "clip_loss": Problem(lambda x, y: jk.clip_loss(x, y, SCALE), forms.clip_loss, unit_pairs, 4, 3, ("clip_loss",)),
    "nt_xent": Problem(
        lambda x, y: jk.nt_xent(x, y, temperature=TEMPERATURE), forms.nt_xent, views, 2, 1.5, ("nt_xent",)
    ),
    "dcl": Problem(lambda x, y: jk.dcl(x, y, temperature=TEMPERATURE), forms.dcl, views, 2, 1.5, ("dcl",)),
    "sup_con": Problem(_sup_con, forms.sup_con, views, 2, 1.5, ("sup_con",)),
    "siglip_loss": Problem(
        lambda x, y: jk.siglip_loss(x, y, SCALE, BIAS), forms.siglip_loss, unit_pairs, 3, 3, ("siglip_loss",)
    ),
    "kde_entropy": Problem(_entropy, forms.kde_entropy, points, 2, 1.5, ("kde_entropy",)),
    "uniformity": Problem(jk.uniformity, forms.uniformity, unit_points, 1.5, 1.5, ("uniformity",)),
    "hard_negatives": Problem(_hard_negatives, forms.hard_negatives, views, 2, 1.5, ("row_loss",)),
    "queue": Problem(  # of 65,536 negatives, which get no gradient
        lambda q, k, negatives: jk.info_nce(q, k, negatives.detach(), temperature=TEMPERATURE, in_batch=False),
        forms.queue,
        queued,
        2,
        2,
        ("info_nce",),
        columns=QUEUE,
    ),
    "shared_captions": Problem(
        lambda x, y: jk.info_nce(x, y, temperature=TEMPERATURE, ids=captions(len(x), x.device)),
        forms.shared_captions,
        pairs,
        3,
        3,
        ("info_nce",),
    ),
    "pairwise_logsumexp": Problem(
        _logsumexp_of_both, forms.logsumexp_of_both, unit_pairs, 4, 3, ("pairwise_logsumexp",)
    ),
    "pairwise_sum": Problem(
        lambda x, y: jk.pairwise_sum(x, y, psi="softplus", scale=SCALE).square().mean(),
        forms.sum_of_softplus,
        unit_pairs,
        4,
        3,
        ("pairwise_sum",),
    ),
    "row_sums": Problem(_BySweeps.apply, forms.sums_of_rows, unit_pairs, 4, 3, ("row_sums", "row_grads")),  # pyright: ignore
    "attend": Problem(
        lambda x, y, v: jk.attend(x, y, v, scale=x.shape[1] ** -0.5).square().mean(),
        forms.attend,
        attended,
        7,
        6,
        ("attend",),
    ),
    "soft_cross_entropy": Problem(
        lambda *streams: jk.soft_cross_entropy(*streams, temperature=TEMPERATURE, target_temperature=TEMPERATURE),
        forms.soft_cross_entropy,
        two_streams,
        11,
        6,
        ("soft_cross_entropy",),
    ),
    "pairwise_topk": Problem(
        lambda x, y: jk.pairwise_topk(x, y, k=NEIGHBOURS)[0].mean(),
        forms.topk,
        unit_pairs,
        1,
        1,
        ("pairwise_topk",),
        gradient=False,
    ),
    "retrieval_metrics": Problem(_recall, forms.recall, unit_pairs, 1, 1, ("retrieval_metrics",), gradient=False),
    # Differences and comparisons, no matrix products.
    "ksg": Problem(lambda x, y: ksg(x, y, k=NEAREST), forms.ksg, pairs, 0, 0, (), gradient=False),
    "knn_entropy": Problem(
        lambda z: jk.knn_entropy(z, k=NEAREST), forms.knn_entropy, points, 0, 0, ("knn_entropy",), gradient=False
    ),
    "alignment": Problem(jk.alignment, forms.alignment, unit_pairs, 0, 0, ("alignment",)),
    "kde_log_density": Problem(
        lambda query, data: jk.kde_log_density(query, data, bandwidth=silverman(*data.shape[::-1])).mean(),
        forms.kde_log_density,
        pairs,
        4,
        3,
        ("kde_log_density",),
    ),
    "kde_score": Problem(
        lambda query, data: jk.kde_score(query, data, bandwidth=silverman(*data.shape[::-1])).square().mean(),
        forms.kde_score,
        pairs,
        7,
        6,
        ("kde_score",),
    ),
    "kde_mutual_information": Problem(
        lambda x, y: jk.kde_mutual_information(x, y, bandwidth=silverman(2 * x.shape[1], len(x))),
        forms.kde_mutual_information,
        pairs,
        8,
        6,
        ("kde_mutual_information", "kde_joint_entropy", "kde_conditional_entropy"),
    ),
    "renyi2_entropy": Problem(
        lambda z: jk.renyi2_entropy(z, bandwidth=silverman(z.shape[1], len(z))),
        forms.renyi2_entropy,
        points,
        2,
        1.5,
        ("renyi2_entropy",),
    ),
    "koleo": Problem(jk.koleo, forms.koleo, points, 1, 1, ("koleo",)),
    **{
        f"mi_{name}": Problem(information.ours(name), information.form(name, information.MASKED), pairs, 3, 3, ("mi",))
        for name in information.FORMS
    },
    "mi_club": Problem(information.club, information.club_of_pairs, pairs, 0, 6, ("mi",)),
    "mi_joint": Problem(information.joint, information.joint_of_pairs, pairs, 0, 0, ("mi",)),
    # What scikit-learn and scipy have: every point counts itself, and there is no gradient.
    "kde_value": Problem(
        lambda z: _entropy(z, "resubstitution"),
        forms.kde_value,
        white_points,
        0.5,
        0.5,
        ("kde_entropy",),
        gradient=False,
    ),
    "kde_clustered": Problem(
        lambda z: jk.kde_entropy(z, bandwidth=CLUSTER_BANDWIDTH),
        lambda z: forms.kde_entropy(z, CLUSTER_BANDWIDTH),
        clusters,
        2,
        1.5,
        ("use_backend",),
        skips=True,
    ),
    "nt_xent_trained": Problem(
        lambda x, y: jk.nt_xent(x, y, temperature=trained.TEMPERATURE),
        lambda x, y: forms.nt_xent(x, y, trained.TEMPERATURE),
        lambda N, D: trained.embeddings(N // 2, D),
        2,
        1.5,
        ("use_backend",),
        skips=True,
    ),
}
LOSSES = ("info_nce", "clip_loss", "nt_xent", "dcl", "sup_con", "siglip_loss", "kde_entropy", "uniformity")
INFORMATION = tuple(name for name in PROBLEMS if name.startswith("mi_"))
# Of one size each: what the eight losses do not show.
OTHERS = tuple(name for name, p in PROBLEMS.items() if name not in (*LOSSES, "kde_value") and not p.skips)


def evaluate(problem: Problem, function: Callable[..., Tensor], batches: list[Tensor]) -> Answer:
    """The value, and its gradient by every batch if the problem has one (zeros where it does not depend on one)."""
    if not problem.gradient:
        with torch.no_grad():
            return torch.as_tensor(function(*batches)), []
    leaves = [t.detach().requires_grad_() for t in batches]
    value = function(*leaves)
    gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    return value.detach(), list(gradients)


def errors(found: Answer, truth: Answer) -> tuple[float, float | None]:
    """|value − truth| / max(1, |truth|), and ‖gradient − truth‖ / ‖truth‖ over all batches (None without a gradient)."""
    value, expected = float(found[0]), float(truth[0])
    value_error = abs(value - expected) / max(1.0, abs(expected))
    if not truth[1]:
        return value_error, None
    difference = sum(float((f.double() - t).square().sum()) for f, t in zip(found[1], truth[1], strict=True))
    return value_error, math.sqrt(difference / sum(float(t.square().sum()) for t in truth[1]))


def in_double(problem: Problem, batches: list[Tensor]) -> Answer:
    """The truth: the matrix form in fp64, of the same numbers."""
    return evaluate(problem, problem.matrix, [t.double() for t in batches])
