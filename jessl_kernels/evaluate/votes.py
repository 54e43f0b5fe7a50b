"""Accuracy of a vote of nearest neighbours, each weighted by its similarity."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._checks import fail
from ..arrays import check_no_mask, is_array
from ..problem.exclude import ids_like
from .sphere import Neighbours

TEMPERATURE = 0.07  # of the votes' weights, as in DINO
COMPARED = 2**24  # pairs of neighbours that are compared at a time


def labels_of(function: str, labels: Any, z: Tensor) -> Tensor:
    """(N,) labels, ≥ 0, some class with two members."""
    if is_array(labels):
        check_no_mask(function, "labels", labels)
        if labels.dtype.kind not in "iu":
            was = f"an array of shape {labels.shape} and dtype {labels.dtype}"
            raise TypeError(f"{function}: labels is {was}, must be of integers")
        labels = torch.from_numpy(labels.astype("int64")).to(z.device)
    labels = ids_like(function, "labels", labels, len(z), ("z", z), " one per row")
    negative = (labels < 0).nonzero().flatten()
    if len(negative):
        row = int(negative[0])
        fail(function, "labels", f"{int(labels[row])} in row {row}", "must be >= 0: leave rows without a label out")
    if not bool((members(labels) > 1).any()):
        fail(function, "labels", "different in all rows", "must have a class with two members")
    return labels


def members(labels: Tensor) -> Tensor:
    """(N,) rows in the class of each row."""
    _, inverse, counts = labels.unique(return_inverse=True, return_counts=True)
    return counts[inverse]


def right(near: Neighbours, labels: Tensor, own: Tensor, k: int) -> Tensor:
    """(Q,) whether the class with the most votes of k neighbours is the own one, on the CPU. A vote weighs e^{cosine/τ}.

    labels  (N,) of all rows
    own     (Q,) of the queries
    """
    found = []
    for index, distance, mine in zip(
        *(part.split(max(COMPARED // k**2, 1)) for part in (near.index[:, :k], near.distance[:, :k], own)), strict=True
    ):
        theirs = labels[index]
        # cos = 1 − d²/2; the nearest weighs 1, so that no weight overflows.
        weight = ((distance[:, :1].square() - distance.square()) / (2 * TEMPERATURE)).exp()
        votes = torch.where(theirs[:, :, None] == theirs[:, None, :], weight[:, None, :], 0.0).sum(dim=2)
        winner = theirs.gather(1, votes.argmax(dim=1, keepdim=True)).squeeze(1)
        found.append(winner == mine)
    return torch.cat(found).cpu()
