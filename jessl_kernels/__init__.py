"""Kernels for large-batch contrastive learning and kernel-density entropy: the numbers of the N×N form in O(N·D) memory."""

import torch

# Before the rest is imported, which fails under an older torch with the name of the first thing that it lacks.
if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 11):
    raise ImportError(
        f"jessl_kernels needs torch 2.11 or newer, torch {torch.__version__} is installed: pip install 'torch>=2.11'"
    )

from . import er, functional, mi, nn
from .backends import backends, set_backend, use_backend
from .entropy import entropy_of
from .evaluate import evaluate
from .explain import explain
from .functional import (
    alignment,
    bandwidth_by_likelihood,
    clip_loss,
    dcl,
    info_nce,
    kde_conditional_entropy,
    kde_entropy,
    kde_joint_entropy,
    kde_log_density,
    kde_mutual_information,
    kde_score,
    koleo,
    nt_xent,
    renyi2_entropy,
    retrieval_metrics,
    siglip_loss,
    soft_cross_entropy,
    sup_con,
    uniformity,
)
from .gradient_cache import cached_backward
from .mi.neighbours import knn_entropy
from .pairwise import attend, pairwise_logsumexp, pairwise_sum, pairwise_topk, row_grads, row_loss, row_sums
from .problem import phi
from .problem.exclude import Exclude

__version__ = "0.1.0"

__all__ = [
    "Exclude",
    "alignment",
    "attend",
    "backends",
    "bandwidth_by_likelihood",
    "cached_backward",
    "clip_loss",
    "dcl",
    "entropy_of",
    "er",
    "evaluate",
    "explain",
    "functional",
    "info_nce",
    "kde_conditional_entropy",
    "kde_entropy",
    "kde_joint_entropy",
    "kde_log_density",
    "kde_mutual_information",
    "kde_score",
    "knn_entropy",
    "koleo",
    "mi",
    "nn",
    "nt_xent",
    "pairwise_logsumexp",
    "pairwise_sum",
    "pairwise_topk",
    "phi",
    "renyi2_entropy",
    "retrieval_metrics",
    "row_grads",
    "row_loss",
    "row_sums",
    "set_backend",
    "siglip_loss",
    "soft_cross_entropy",
    "sup_con",
    "uniformity",
    "use_backend",
]
