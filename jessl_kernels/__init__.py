"""Kernels for large-batch contrastive learning and kernel-density entropy, in O(N·D) memory."""

from . import phi
from .backends import backends, use_backend
from .exclude import Exclude
from .pairwise import pairwise_logsumexp, pairwise_sum, pairwise_topk

__version__ = "0.1.0"
