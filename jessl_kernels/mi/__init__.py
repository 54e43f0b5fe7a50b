"""Mutual information: bounds from a batch of pairs, the critics that they need, and estimators."""

from . import bounds, critics

__all__ = ["bounds", "critics"]
