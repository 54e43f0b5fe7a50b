"""Losses and estimators: each a formula over a pairwise reduction. Nothing here knows how a reduction is computed."""

from .contrastive import clip_loss, dcl, nt_xent, siglip_loss
from .density import kde_entropy, kde_log_density
from .geometry import alignment, uniformity
from .info_nce import info_nce
from .retrieval import retrieval_metrics
from .soft_targets import soft_cross_entropy
from .supervised import sup_con

__all__ = [
    "alignment",
    "clip_loss",
    "dcl",
    "info_nce",
    "kde_entropy",
    "kde_log_density",
    "nt_xent",
    "retrieval_metrics",
    "siglip_loss",
    "soft_cross_entropy",
    "sup_con",
    "uniformity",
]
