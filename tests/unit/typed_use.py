"""What a type checker makes of public calls. `make lint` reads this file with the package; nothing runs it.

Each wrong word below carries an ignored error; were it none, the comment itself would be one.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

import numpy as np
from torch import Tensor
from typing_extensions import assert_type

import jessl_kernels as jk
from jessl_kernels.explain import Explanation
from jessl_kernels.literals import Dim, Reduction
from jessl_kernels.pairwise.sums import SumsOfRows


def results(x: Tensor, y: Tensor, labels: Tensor, dim: Dim, reduction: Reduction) -> None:
    assert_type(jk.info_nce(x, y, reduction="none"), Tensor)
    assert_type(jk.clip_loss(x, y, 10.0, reduction=reduction), Tensor)
    assert_type(jk.sup_con(x, labels, form="in", no_positive="zero"), Tensor)
    assert_type(jk.kde_entropy(x, bandwidth="scott", kernel="laplace", estimator="resubstitution"), Tensor)
    assert_type(jk.retrieval_metrics(x, y, ties="mean"), dict[str, Tensor])
    assert_type(jk.nn.CLIP()(x, y), Tensor)

    assert_type(jk.pairwise_logsumexp(x), Tensor)
    assert_type(jk.pairwise_logsumexp(x, y, kind="sqdist", reduction="logsumexp"), Tensor)
    assert_type(jk.pairwise_logsumexp(x, y, dim="both"), tuple[Tensor, Tensor])
    assert_type(jk.pairwise_logsumexp(x, y, dim="both", reduction="mean"), Tensor)
    assert_type(jk.pairwise_sum(x, psi="step", dim="both"), tuple[Tensor, Tensor])
    assert_type(jk.pairwise_sum(x, dim=dim, reduction=reduction), Tensor | tuple[Tensor, Tensor])
    assert_type(jk.pairwise_topk(x, k=3), tuple[Tensor, Tensor])
    assert_type(jk.pairwise_topk(x, y, dim="both"), tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]])

    assert_type(jk.row_loss([x, y], join="softplus", positives=len(x)), Tensor)
    assert_type(jk.row_loss(x, y, join="none", dim="both"), Tensor)
    assert_type(jk.row_loss(x, y, join=lambda N, *_: N[0], dim="both", reduction="none"), tuple[Tensor, Tensor])
    assert_type(jk.row_sums(x, y, positives=0), SumsOfRows)
    assert_type(jk.row_sums(x, y, positives=0).N, tuple[Tensor, ...])
    assert_type(jk.mi.bound("nwj", x, y).value, float)
    assert_type(jk.mi.estimate(x, np.zeros((8, 2)), "dv", "joint"), jk.mi.Estimate)
    assert_type(jk.mi.estimate(x, y, "smile", jk.mi.Separable(2, 2), tau=3.0).interval, tuple[float, float])
    assert_type(jk.er.bound(x, y, concentration=5.0).value, Tensor)
    assert_type(jk.er.swav([x, y], x, queue=None), Tensor)
    assert_type(jk.er.DINO(8)([x, y], [x, y], x, y), Tensor)
    assert_type(jk.explain(jk.clip_loss, x, y, 10.0), Explanation)


def wrong_words(x: Tensor, y: Tensor, labels: Tensor) -> None:
    jk.nt_xent(x, y, reduction="avg")  # pyright: ignore[reportArgumentType]
    jk.info_nce(x, y, same_id="skip")  # pyright: ignore[reportArgumentType]
    jk.siglip_loss(x, y, 1.0, 0.0, same_id="mean")  # pyright: ignore[reportArgumentType]
    jk.sup_con(x, labels, form="outer")  # pyright: ignore[reportArgumentType]
    jk.kde_entropy(x, bandwidth="scot")  # pyright: ignore[reportArgumentType]
    jk.nn.KDEEntropy(1.0, kernel="gauss")  # pyright: ignore[reportArgumentType]
    jk.mi.estimate(x, y, "nwjj")  # pyright: ignore[reportArgumentType]
    jk.mi.estimate(x, y, critic="mlp")  # pyright: ignore[reportArgumentType]
    jk.mi.estimate(x, y, alhpa=0.5)  # pyright: ignore[reportCallIssue]
    jk.er.loss(x, y, kernel="laplace")  # pyright: ignore[reportArgumentType]
    jk.retrieval_metrics(x, y, ties="any")  # pyright: ignore[reportArgumentType]
    jk.use_backend("gpu")  # pyright: ignore[reportArgumentType]
    jk.pairwise_logsumexp(x, exclude="diag")  # pyright: ignore[reportArgumentType]
    jk.pairwise_topk(x, dim="rows")  # pyright: ignore[reportArgumentType, reportCallIssue]
    jk.row_loss(x, y, join="hinge")  # pyright: ignore[reportArgumentType]
