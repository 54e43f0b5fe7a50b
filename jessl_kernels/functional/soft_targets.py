"""Cross entropy between two pairwise softmaxes: soft targets, and distillation of one batch's similarities into another's.

The target's shares meet the scores in their mean alone, Σ_j t_ij s_ij = ⟨x_i, Σ_j t_ij y_j⟩/τ + Σ_j t_ij c_j, made by `attend`.
With minus this mean as the row's bias the log-sum-exp is the cross entropy itself, and nothing of equal size is subtracted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .._checks import accumulation_dtype, choice, embeddings, fail, flag, scalar
from ..autocast import without_autocast
from ..literals import REDUCTIONS, ExcludeWord, Reduction
from ..pairwise import attend, pairwise_logsumexp
from ..pairwise.arguments import unit, vector
from ..problem.exclude import Exclude, as_exclude
from .rows import reduce_rows, rowwise_dot, scaled


def soft_cross_entropy(
    x: Tensor,
    y: Tensor,
    target_x: Tensor,
    target_y: Tensor,
    *,
    temperature: float | Tensor = 0.07,
    target_temperature: float | Tensor = 0.07,
    col_bias: Tensor | None = None,
    target_col_bias: Tensor | None = None,
    exclude: Exclude | ExcludeWord | None = None,
    normalize: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross entropy of the softmax of one batch's similarities under another's, in nats and O(N·D) memory.

        loss_i = −Σ_j t_ij log p_ij,    p = softmax_j(⟨x_i, y_j⟩/τ + c_j),    t = softmax_j(⟨x'_i, y'_j⟩/τ' + c'_j)

    x, y                  (N, D) and (M, D) float tensors, the student's
    target_x, target_y    (N, E) and (M, E), the teacher's: rows of the same items; detach them for a constant target
    temperature, target_temperature   τ and τ', floats or 0-d tensors, > 0; tensors receive gradients
    col_bias, target_col_bias         c and c', (M,), or None; −inf in both leaves a column out
    exclude               pairs left out of both softmaxes: `jk.Exclude`, "diagonal" or None
    normalize             divide each row of all four by its norm first
    reduction             "mean" over rows, "sum", or "none": (N,); 0 for a row without pairs

    Both softmaxes receive gradients. This is the relational distillation of DistillClip (TinyCLIP, arXiv 2309.12314), the
    consistency term of CO2 (arXiv 2010.02217), and, with prototypes for y and y', the loss of DINO (arXiv 2104.14294).

    Returns fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> x = torch.eye(2)
    >>> jk.soft_cross_entropy(x, x, x, x, temperature=1.0, target_temperature=1.0)     # the entropy of (e, 1)/(e + 1)
    tensor(0.5822)
    """
    function = "soft_cross_entropy"
    choice(function, "reduction", reduction, REDUCTIONS)
    flag(function, "normalize", normalize)
    embeddings(function, "x", x)
    embeddings(function, "y", y, like=("x", x))
    embeddings(function, "target_x", target_x)
    embeddings(function, "target_y", target_y, like=("target_x", target_x))
    for name, target, like, rows in (("target_x", target_x, "x", x), ("target_y", target_y, "y", y)):
        if len(target) != len(rows):
            fail(function, name, f"of {len(target)} rows", f"must have {len(rows)} like {like}: rows of the same items")
        if target.device != x.device:
            fail(function, name, f"on {target.device}", f"must be on {x.device} like x")
    scale = scalar(function, "temperature", temperature, ("x", x), above=0, inverse=True)
    target_scale = scalar(
        function, "target_temperature", target_temperature, ("target_x", target_x), above=0, inverse=True
    )
    pairs = as_exclude(function, exclude, len(x), len(y), x.device)
    # Widened once for all sums, so that their gradients, which nearly cancel, are added before they are rounded.
    wide = torch.promote_types(accumulation_dtype(x.dtype), accumulation_dtype(target_x.dtype))
    x, y, target_x, target_y = (
        unit(z, rounded=False).to(wide) if normalize else z.to(wide) for z in (x, y, target_x, target_y)
    )
    bias = vector(function, "col_bias", col_bias, x, len(y))
    target_bias = vector(function, "target_col_bias", target_col_bias, x, len(y))
    values = y
    if bias is not None:
        # A column that the target leaves out has a share of 0, which a bias of −∞ would turn into NaN.
        counted = bias if target_bias is None else bias.masked_fill(target_bias == -torch.inf, 0.0)
        values = torch.cat([y, counted[:, None]], dim=1)
    with without_autocast(x.device):  # the mean score and the scores come from the same numbers
        mean = attend(target_x, target_y, values, scale=target_scale, col_bias=target_bias, exclude=pairs)
        mean_score = scaled(rowwise_dot(x, mean[:, : x.shape[1]]), scale)
        if bias is not None:
            mean_score = mean_score + mean[:, -1]
        loss = pairwise_logsumexp(x, y, scale=scale, row_bias=-mean_score, col_bias=bias, exclude=pairs)
    return reduce_rows(loss.masked_fill(loss == -torch.inf, 0.0), reduction)
