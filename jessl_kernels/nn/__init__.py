"""Modules: the losses with their parameters, and queues of keys from earlier batches."""

from .losses import CLIP, DCL, InfoNCE, KDEEntropy, NTXent, SigLIP, SupCon, Uniformity
from .queue import Queue

__all__ = ["CLIP", "DCL", "InfoNCE", "KDEEntropy", "NTXent", "Queue", "SigLIP", "SupCon", "Uniformity"]
