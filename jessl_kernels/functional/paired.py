"""Losses in which every row has one partner: what they share around the reduction."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import softplus

from ..pairwise import paired_in_one, pairwise_logsumexp, pairwise_sum
from ..problem.exclude import Exclude
from ..problem.row_loss import Pairing
from ..problem.score import joined
from .rows import prepare, reduce_rows, rowwise_dot, scaled


def paired(
    x: Tensor,
    y: Tensor | None,
    scale: Tensor,
    *,
    rest: Tensor | None = None,
    join: str,
    shift: int = 0,
    exclude: Exclude | str = "diagonal",
    both: bool = False,
    bias: Tensor | None = None,
    normalize: bool,
    reduction: str,
) -> Tensor:
    """The loss of each row against its partner, t_i = scale·⟨x_i, y_k⟩ + bias with k = (i + shift) mod M.

        join "anchor"     log(1 + e^{L_i − t_i})      L_i the log-sum-exp of row i without its partner
             "minus"      L_i − t_i
             "softplus"   R_i + softplus(−t_i)        R_i the row's sum of softplus

    rest     further rows of y, or of x where y is None: read where they are by a backend that can, joined for the others
    exclude  takes the partners out of the reduction
    both     the average of the rows' losses and the columns'

    Checked arguments. A backend that can takes "mean" and "sum" in one call; the lines below are what it computes.
    """
    psi = "softplus" if join == "softplus" else None
    if reduction != "none":
        rows = len(x) + (len(rest) if y is None and rest is not None else 0)
        weight = (0.5 if both else 1.0) / (rows if reduction == "mean" else 1)
        pairing = Pairing(weight, join, shift, normalize, both)
        bias_of_rows = None if bias is None else bias.expand(rows)
        loss = paired_in_one(x, y, rest, psi=psi, scale=scale, row_bias=bias_of_rows, exclude=exclude, pairing=pairing)
        if loss is not None:
            return loss
    x, y = joined(x, y, rest)
    if y is None:
        (x,) = prepare(x, normalize=normalize)
        partner = x.roll(-shift, dims=0)
    else:
        x, y = prepare(x, y, normalize=normalize)
        partner = y.narrow(0, 0, len(x))
    t = scaled(rowwise_dot(x, partner), scale)  # (N,)
    options: Any = {"scale": scale, "exclude": exclude, "reduction": reduction}
    if join == "softplus":
        assert bias is not None
        return pairwise_sum(x, y, row_bias=bias.expand(len(x)), **options) + reduce_rows(
            softplus(-(t + bias), threshold=40), reduction
        )
    if join == "minus":
        return pairwise_logsumexp(x, y, **options) - reduce_rows(t, reduction)
    if not both:
        return pairwise_logsumexp(x, y, anchor=t, **options)
    sides = pairwise_logsumexp(x, y, anchor=t, col_anchor=t, dim="both", **options)
    return 0.5 * (sides[0] + sides[1] if reduction == "none" else sides)
