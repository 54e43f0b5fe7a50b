"""Sums over pairs whose scores are never stored. Arguments are checked here; autocast and the backend are settled.

attend      softmax-weighted sums of values
reductions  log-sum-exp, sum of ψ and top-k, over rows, columns or both
row_loss    losses of rows: a named join in one call, or sums and gradients apart
sums        sums that can be merged, with gradients
joined      a join evaluated in torch
positives   which pairs are positives
arguments   checks of the shared arguments; options: types for their overloads
"""

from .attend import attend
from .reductions import pairwise_logsumexp, pairwise_sum, pairwise_topk
from .row_loss import row_grads, row_loss, row_sums

__all__ = ["attend", "pairwise_logsumexp", "pairwise_sum", "pairwise_topk", "row_grads", "row_loss", "row_sums"]
