"""Mutual information: bounds from a batch of pairs, the critics that they need, and estimators."""

from . import bounds, critics
from .neighbours import knn_entropy, ksg
from .objectives import Bound, Objective, bound

__all__ = ["Bound", "Objective", "bound", "bounds", "critics", "knn_entropy", "ksg"]
