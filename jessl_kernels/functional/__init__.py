"""Losses and estimators: each a formula over a pairwise reduction. Nothing here knows how a reduction is computed."""

from .bandwidth import bandwidth_by_likelihood
from .contrastive import clip_loss, dcl, nt_xent, siglip_loss
from .density import kde_entropy, kde_log_density, renyi2_entropy
from .geometry import alignment, koleo, uniformity
from .info_nce import info_nce
from .joint import kde_conditional_entropy, kde_joint_entropy, kde_mutual_information
from .retrieval import retrieval_metrics
from .score import kde_score
from .soft_targets import soft_cross_entropy
from .supervised import sup_con

__all__ = [
    "alignment",
    "bandwidth_by_likelihood",
    "clip_loss",
    "dcl",
    "info_nce",
    "kde_conditional_entropy",
    "kde_entropy",
    "kde_joint_entropy",
    "kde_log_density",
    "kde_mutual_information",
    "kde_score",
    "koleo",
    "nt_xent",
    "renyi2_entropy",
    "retrieval_metrics",
    "siglip_loss",
    "soft_cross_entropy",
    "sup_con",
    "uniformity",
]
