"""Which backend would compute a reduction, how, at what cost, and why the others decline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ._checks import choice, fail, wrong_type
from .backends import BACKENDS, refusals, select, settings
from .ops.eager import score_of
from .pairwise.arguments import DIMS, psi_of
from .pairwise.reductions import problem_of
from .problem.exclude import Exclude
from .problem.join import JOINS
from .problem.phi import Phi


@dataclass(frozen=True)
class Explanation:
    """The plan for one reduction; prints as a few lines.

    backend    the backend that computes
    path       its route, and the reason for it
    gemms      matrix products of 2·N·M·D flops it spends, on the value alone or on value and gradient
    workspace  bytes at most beyond inputs, outputs and a few vectors
    matrix     bytes of one N×M matrix of scores, of which the matrix form keeps three or four
    skipping   the effect of skip_below; "" if it is 0
    declined   the other backends' reasons
    """

    problem: str
    backend: str
    path: str
    gemms: float
    workspace: int
    matrix: int
    skipping: str
    declined: dict[str, list[str]]

    def __str__(self) -> str:
        workspace, matrix = self.workspace / 2**20, self.matrix / 2**20
        lines = [
            self.problem,
            f"  backend    {self.backend}: {self.path}",
            f"  products   {self.gemms:g} of 2·N·M·D flops",
            f"  workspace  {workspace:.1f} MiB at most, where one matrix of scores takes {matrix:.1f} MiB",
        ]
        lines += [f"  skipping   {self.skipping}"] if self.skipping else []
        lines += [f"  declined   {name}: {'; '.join(why)}" for name, why in self.declined.items()]
        return "\n".join(lines)


def explain(
    x: Tensor,
    y: Tensor | None = None,
    *,
    psi: str | None = None,
    kind: str = "dot",
    phi: Phi | str | None = None,
    scale: float | Tensor = 1.0,
    exclude: Exclude | str | None = None,
    join: str | Callable[..., Tensor] | None = None,
    dim: str = "row",
    reduction: str | None = None,
) -> Explanation:
    """The plan of `pairwise_logsumexp` for these arguments, of `pairwise_sum` if `psi` is given, or of `row_loss` if `join` is;
    computes nothing.

    reduction    as in these functions; None: "none", and "mean" for a join
    join         as in `row_loss`, for positives named by a shift

    A join of one's own, and reduction "none", are evaluated between two sweeps. If only one side is summed, this takes 4 products
    instead of the 3 of a named join.

    Other arguments and defaults as in `pairwise_logsumexp`; the losses' reduction is "mean". Anchors, biases and weights are not
    accepted. They do not change the plan, except for biases with a wide range, which may give a total a second pass. A gradient
    is planned if grad mode is on and x, y or scale requires one.

    Raises ValueError or TypeError naming the argument at fault; NotImplementedError if all backends decline.

    >>> print(jk.explain(z, exclude="diagonal", reduction="mean"))
    pairwise_logsumexp over rows of 8192×8192 dot scores, D = 128, float32 on cpu; value and gradient
      backend    cpu: triangular tiles, two passes, avx512
      products   2 of 2·N·M·D flops
      workspace  64.0 MiB at most, where one matrix of scores takes 256.0 MiB
    """
    if reduction is None:
        reduction = "none" if join is None else "mean"
    choice("explain", "reduction", reduction, ("none", "sum", "mean", "logsumexp" if join is None else "mean_counted"))
    if psi is not None and join is not None:
        fail("explain", "psi", "given", "must be None with a join")
    choice("explain", "dim", dim, DIMS)
    if isinstance(join, str):
        choice("explain", "join", join, tuple(JOINS))
    elif join is not None and not callable(join):
        wrong_type(
            "explain", "join", join, "must be a name, a function of (N, P, spread, n_pos, n_neg, *params) or None"
        )
    op = "logsumexp" if psi is None else psi_of("explain", "psi", psi)
    problem = problem_of("explain", x, y, kind, phi, scale, None, None, exclude)
    problem = problem.transposed() if dim == "col" else problem
    chosen = select("explain", problem, op)
    score = score_of(problem)
    tensors = (score.x, score.y, score.scale)
    with_gradient = torch.is_grad_enabled() and any(isinstance(t, Tensor) and t.requires_grad for t in tensors)
    planned = "none" if callable(join) else reduction.removesuffix("_counted")
    workspace = settings().workspace_on(score.x.device)
    plan = BACKENDS[chosen].plan(score, op, dim == "both", with_gradient, planned, workspace)
    what = f"pairwise_sum of {psi}" if psi else "pairwise_logsumexp"
    if join is not None:
        what = f"row_loss with {join if isinstance(join, str) else 'a join of its own'}"
    sides = {"row": "rows", "col": "columns", "both": "rows and columns"}[dim]
    dtype = str(score.x.dtype).removeprefix("torch.")
    return Explanation(
        problem=f"{what} over {sides} of {score.N}×{score.M} {kind} scores, D = {score.D}, {dtype} on {score.x.device}; "
        + ("value and gradient" if with_gradient else "value alone"),
        backend=chosen,
        path=plan.path,
        gemms=plan.gemms,
        workspace=plan.workspace,
        matrix=score.N * score.M * score.dtype.itemsize,
        skipping=plan.skipping if score.skip_below else "",
        declined={name: why for name, why in refusals(score, op).items() if name != chosen and why},
    )
