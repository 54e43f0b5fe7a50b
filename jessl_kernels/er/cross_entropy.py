"""Cross entropy of assignments to prototypes with those of other views, without a matrix of scores.

With s_ik = ⟨z_i, c_k⟩/τ and targets t_ik:

    −Σ_k t_ik log softmax_k(s_ik) = log Σ_k e^{s_ik − a_i},    a_i = ⟨z_i, Σ_k t_ik c_k⟩/τ

The mean Σ_k t_ik c_k is attention whose values are the prototypes. Its score is the row's bias, so no two numbers of equal size
are subtracted. A target needs a mean of its own, and a view one log-sum-exp for the mean of all of its targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .._checks import accumulation_dtype
from ..autocast import without_autocast
from ..functional.rows import prepare, rowwise_dot, unit
from ..pairwise import attend, pairwise_logsumexp
from ..pairwise.arguments import held_settings
from .checks import unit_rows

NORMALIZE = "divide each by its norm, or pass normalize=True"
# Bytes of a gradient of prototypes at once. Autograd would hold several whole ones, of the sum and of each mean, to add them.
# On a GPU a block costs launches, some 0.1 ms each, so they should be few.
BLOCK, BLOCK_OF_CPU = 2**24, 2**19
Scale = float | Tensor


class View(NamedTuple):
    """The rows of a view.

    scored  as the scores see them: in the dtype of autocast
    wide    the same numbers in the accumulation dtype, whose gradient is not rounded: that of a cross entropy is a difference
    """

    scored: Tensor
    wide: Tensor


class Target(NamedTuple):
    """Assignments t_ik = softmax_k(scale·⟨rows_i, keys_k⟩ + bias_k)."""

    rows: Tensor
    keys: Tensor
    scale: Scale
    bias: Tensor | None

    def mean(self, values: Tensor) -> Tensor:
        """Σ_k t_ik values_k."""
        return attend(self.rows, self.keys, values, scale=self.scale, col_bias=self.bias)

    def log_sums(self) -> Tensor:
        """log Σ_k e^{score_ik}."""
        return pairwise_logsumexp(self.rows, self.keys, scale=self.scale, col_bias=self.bias)

    def received(self, part: slice, log_sums: Tensor, upstream: Tensor) -> Tensor:
        """Σ_i t_ik upstream_i of some keys k: attention of a key among the rows, times its sum of assignments."""
        among = {"scale": self.scale, "col_bias": -log_sums}
        bias = None if self.bias is None else self.bias[part]
        sums = pairwise_logsumexp(self.keys[part], self.rows, row_bias=bias, **among)
        return sums.exp().unsqueeze(1) * attend(self.keys[part], self.rows, upstream, **among)


def prepared(
    function: str, names: Sequence[str], views: Sequence[Tensor], prototypes: Tensor, normalize: bool
) -> tuple[list[View], Tensor]:
    """Views, made unit rows or checked to be, and prototypes in the dtype of autocast."""
    if not normalize:
        for name, view in zip(names, views, strict=True):
            unit_rows(function, name, view, NORMALIZE)
    (seen, *_) = prepare(views[0].detach(), normalize=False)  # in the dtype in which scores are computed
    made = []
    for view in views:
        wide = unit(view, rounded=False) if normalize else view.to(accumulation_dtype(view.dtype))
        scored = wide.to(seen.dtype)
        made.append(View(scored, wide if scored is wide else wide + (scored.to(wide.dtype) - wide).detach()))
    return made, prepare(prototypes, normalize=False)[0]


def swapped(targets: int, views: int) -> list[tuple[int, int]]:
    """(t, v) of every target and every other view; targets are of the first views."""
    return [(t, v) for t in range(targets) for v in range(views) if v != t]


def cross_entropy(
    pairs: Sequence[tuple[int, int]],
    targets: Sequence[Target],
    views: Sequence[View],
    prototypes: Tensor,
    scale: Scale,
) -> Tensor:
    """The mean over pairs (t, v) of mean_i −Σ_k t_ik log softmax_k(s_i), with the scores of view v."""
    share = 1 / (len(pairs) * len(views[0].wide))
    owners = [[t for t, v in pairs if v == n] for n in range(len(views))]
    asked = [n for n, own in enumerate(owners) if own]
    every = View(*(torch.cat([views[n][part] for n in asked]) for part in (0, 1)))
    weights = torch.cat([every.wide.new_full((len(views[n].wide),), share * len(owners[n])) for n in asked])
    own = [owners[n] for n in asked]
    of_block = BLOCK_OF_CPU if prototypes.device.type == "cpu" else BLOCK
    # No more than 64 blocks: each has a number for each row.
    size = max(1, of_block // (4 * prototypes.shape[1]), len(prototypes) // 64)
    if 2 * size < len(prototypes) and _by_blocks(targets, prototypes, scale):
        towards = [
            torch.stack([views[v].wide.detach() for t, v in pairs if t == n]).sum(dim=0) for n in range(len(targets))
        ]
        plan = _Plan(targets, own, towards, weights, share, scale, size)
        return _Blocks.apply(prototypes, every.wide, every.scored, plan)
    bias = _bias(every.wide, _means_of_views([target.mean(prototypes) for target in targets], own), scale)
    return pairwise_logsumexp(every.scored, prototypes, scale=scale, row_bias=bias, reduction="sum", weights=weights)


def _means_of_views(means: Sequence[Tensor], own: Sequence[Sequence[int]]) -> Tensor:
    """The mean of each view's targets, one view after the other."""
    return torch.cat([torch.stack([means[t] for t in of_view]).mean(dim=0) for of_view in own])


def _bias(wide: Tensor, means: Tensor, scale: Scale) -> Tensor:
    return -(scale * rowwise_dot(wide, means))


def _by_blocks(targets: Sequence[Target], prototypes: Tensor, scale: Scale) -> bool:
    """Whether the gradient of the prototypes is wanted, that of nothing else but the views, and outside of any trace."""
    constants = [t for target in targets for t in target if isinstance(t, Tensor)] + [scale]
    return (
        torch.is_grad_enabled()
        and prototypes.requires_grad
        and not any(isinstance(t, Tensor) and t.requires_grad for t in constants)
        and not torch.compiler.is_compiling()
        and type(prototypes) in (Tensor, torch.nn.Parameter)
        and not torch._C._are_functorch_transforms_active()  # torch.func has no public name for it
    )


class _Plan(NamedTuple):
    """targets  constants for autograd
    own      which targets each view has
    towards  Σ over the views of a target of their rows
    weights  of the rows of all views
    share    of a row of one pair
    scale    1/τ
    size     prototypes of a block
    """

    targets: Sequence[Target]
    own: Sequence[Sequence[int]]
    towards: Sequence[Tensor]
    weights: Tensor
    share: float
    scale: Scale
    size: int


class _Blocks(torch.autograd.Function):
    """The same by blocks of prototypes, whose gradients are written into one tensor.

    A view's softmax over all prototypes is that over a block times the block's share, e^{L_b − L}, from the log-sum-exps of the
    blocks.
    """

    @staticmethod
    def forward(ctx: Any, prototypes: Tensor, wide: Tensor, scored: Tensor, plan: _Plan) -> Tensor:
        mean = _means_of_views([target.mean(prototypes) for target in plan.targets], plan.own)
        bias = _bias(wide, mean, plan.scale)
        parts = [slice(a, a + plan.size) for a in range(0, len(prototypes), plan.size)]
        sums = torch.stack(
            [pairwise_logsumexp(scored, prototypes[part], scale=plan.scale, row_bias=bias) for part in parts]
        )
        rows = sums.logsumexp(dim=0)
        totals = [target.log_sums() for target in plan.targets]
        # Targets are saved so that torch notices a slow network that moves on before the backward pass.
        constants = [t for target in plan.targets for t in target if isinstance(t, Tensor)]
        ctx.save_for_backward(prototypes, scored, mean, bias, (sums - rows).exp() * plan.weights, *constants)
        ctx.plan, ctx.parts, ctx.totals, ctx.settings = plan, parts, totals, held_settings()
        return (rows * plan.weights).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple:
        prototypes, scored, mean, bias, weights, *_ = ctx.saved_tensors
        plan = ctx.plan
        grad = torch.empty_like(prototypes)
        of_scored = torch.zeros_like(mean)
        with ctx.settings(), without_autocast(scored.device):
            for n, part in enumerate(ctx.parts):
                with torch.enable_grad():
                    leaves = scored.detach().requires_grad_(), prototypes[part].detach().requires_grad_()
                    of_block = {"scale": plan.scale, "row_bias": bias, "weights": weights[n] * upstream}
                    value = pairwise_logsumexp(*leaves, reduction="sum", **of_block)
                rows, of_part = torch.autograd.grad(value, leaves)
                of_scored += rows
                pulls = [
                    target.received(part, totals, towards)
                    for target, totals, towards in zip(plan.targets, ctx.totals, plan.towards, strict=True)
                ]
                grad[part] = of_part.to(mean.dtype) - plan.scale * plan.share * upstream * sum(pulls)
        of_wide = -(plan.scale * plan.weights * upstream).unsqueeze(1) * mean
        return grad, of_wide, of_scored.to(scored.dtype), None
