"""Whole losses of rows: where a row's positives are, and what becomes of its reduction."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Pairing(NamedTuple):
    """A sum of losses of rows that count alike, each of which may have one partner among the columns, left out of its reduction.

    weight     of each loss in their sum
    join       what becomes of the reduction: "anchor" log(1 + e^{L_i − t_i}), "minus" L_i − t_i, "softplus" R_i + softplus(−t_i),
               or "none": there are no partners
    shift      row i's partner is column (i + shift) mod M, and t_i its score
    normalize  rows are divided by their norms first
    cols       columns have a loss too, with the same partners
    """

    weight: float
    join: str = "none"
    shift: int = 0
    normalize: bool = False
    cols: bool = False


class Labelling(NamedTuple):
    """SupCon of rows that count alike: each row's partners are the others of its label.

    labels       (N,) int64
    form         "out" or "in", where the mean over positives stands
    weight       of each row's loss in their sum; rows without a positive have none
    per_counted  the sum is divided by the number of rows that have a positive
    normalize    rows are divided by their norms first
    """

    labels: Tensor
    form: str
    weight: float
    per_counted: bool
    normalize: bool
