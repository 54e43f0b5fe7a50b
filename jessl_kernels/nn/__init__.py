"""Modules: the losses with what they hold, and queues of keys from earlier batches."""

from .losses import CLIP, DCL, InfoNCE, KDEEntropy, NTXent, SigLIP, SupCon, Uniformity
from .queue import Queue

__all__ = ["CLIP", "DCL", "InfoNCE", "KDEEntropy", "NTXent", "Queue", "SigLIP", "SupCon", "Uniformity"]
