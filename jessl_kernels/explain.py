"""Which backend would compute a loss, how, at what cost, and why the others decline."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from ._checks import fail, wrong_type
from .backends import BACKENDS, refusals
from .backends.rows import Rows
from .gradient_cache import cached_backward
from .ops.asked import Asked, listening


@dataclass(frozen=True)
class Step:
    """The plan for one sum over pairs.

    pairs          the scores and what is summed over them
    backend        the backend that computes
    path           its route, and the reason for it
    with_gradient  the plan is for value and gradient, not for the value alone
    gemms          matrix products of 2·N·M·D flops it spends, without the sweeps over positives by ids; a gradient is planned
                   for all embeddings, though some may require none
    workspace      bytes at most beyond inputs, outputs and a few vectors; 0 for a route that takes none
    matrix         bytes of one N×M matrix of scores, of which the matrix form keeps three or four
    skipping       the effect of skip_below, or of a φ with a support; "" if there is none
    declined       the other backends' reasons
    """

    pairs: str
    backend: str
    path: str
    with_gradient: bool
    gemms: float
    workspace: int
    matrix: int
    skipping: str
    declined: dict[str, list[str]]

    def __str__(self) -> str:
        matrix = f"one matrix of scores would take {self.matrix / 2**20:.1f} MiB"
        memory = f"{self.workspace / 2**20:.1f} MiB of workspace at most" if self.workspace else "a few vectors"
        lines = [
            f"pairs      {self.pairs}",
            f"backend    {self.backend}: {self.path}",
            f"products   {self.gemms:g} of 2·N·M·D flops",
            f"memory     {memory} beyond inputs and results; {matrix}",
        ]
        lines += [f"skipping   {self.skipping}"] if self.skipping else []
        lines += [f"declined   {name}: {'; '.join(why)}" for name, why in self.declined.items()]
        return "\n".join(f"  {line}" for line in lines)


@dataclass(frozen=True, repr=False)
class Explanation:
    """The plan for one call; prints as a few lines, and shows them at the prompt.

    loss   the name of what was explained
    steps  the sums over pairs that it takes, in order: one for most losses, none for `alignment`
    ours   whether the loss is of this package
    """

    loss: str
    steps: tuple[Step, ...]
    ours: bool

    def __str__(self) -> str:
        if not self.steps:
            nothing = "no sums over pairs, O(N·D) work and memory"
            return f"{self.loss}: {nothing if self.ours else 'calls nothing of jessl_kernels that sums over pairs'}"
        what = "value and gradient" if any(step.with_gradient for step in self.steps) else "value alone"
        several = f", {len(self.steps)} sums over pairs" if len(self.steps) > 1 else ""
        return "\n".join([f"{self.loss}: {what}{several}", *map(str, self.steps)])

    __repr__ = __str__


def explain(loss: Callable[..., Any], *args: Any, **kwargs: Any) -> Explanation:
    """Who would compute `loss(*args, **kwargs)`, by which route, at what cost; no score of a pair is computed for that.

    loss          a loss, an estimator, a metric or a sum over pairs of this package, a module of `jk.nn`, or a function of
                  your own that calls them
    args, kwargs  its arguments, checked as it checks them; what is linear in N, such as the norms of rows, is computed

    A gradient is planned for if grad mode is on and one of the embeddings, or the scale, requires one. With a join of your
    own, and with reduction="none", gradients are made in a second sweep: where one side alone is summed that takes 4 products in
    place of 3. Settings of `use_backend` count as they would in the call itself.

    Raises TypeError if loss is no function, whatever loss raises for its arguments, and NotImplementedError if no backend is
    willing.

    >>> jk.explain(jk.nt_xent, z1, z2)
    nt_xent: value and gradient
      pairs      8192×8192 dot scores, D = 128, float32 on cpu: log-sum-exp of each row
      backend    cpu: triangular tiles, two passes, avx512
      products   2 of 2·N·M·D flops
      memory     64.0 MiB of workspace at most beyond inputs and results; one matrix of scores would take 256.0 MiB
      declined   triton: x is on cpu
    """
    if not callable(loss):
        wrong_type("explain", "loss", loss, "must be a loss, a function or a module: jk.explain(jk.nt_xent, z1, z2)")
    if loss is cached_backward:
        fail("explain", "loss", "cached_backward", "must be the loss alone, of embeddings of the whole batch")
    # What torch.compile made of a function would have compiled the listening too.
    with listening() as asked, torch.compiler.set_stance("force_eager"):
        loss(*args, **kwargs)
    ours = (getattr(loss, "__module__", None) or "").startswith(f"{__package__}.")
    return Explanation(_name(loss), tuple(_step(one) for one in asked), ours)


def _name(loss: Any) -> str:
    while isinstance(loss, functools.partial):
        loss = loss.func
    return getattr(loss, "__name__", type(loss).__name__)


def _step(asked: Asked) -> Step:
    problem, who = asked.problem, asked.who
    with torch.no_grad():
        score = Rows(problem).negatives
    reduction = asked.reduction.removesuffix("_counted")
    if asked.operator in ("top_k", "attend"):
        score = replace(score, y=score.keys)  # each row is compared with all columns, in a symmetric problem too
        reduction = asked.operator
    terms = problem.negatives
    plan = BACKENDS[who.backend].plan(score, terms, problem.cols, asked.with_gradient, reduction, who.workspace)
    gemms = plan.gemms
    if asked.operator == "attend":  # products with the values too: one for the sums, two for the gradients
        share = asked.width / problem.D
        gemms = 1 + share + asked.with_gradient * (3 + 2 * share)
    ops = dict.fromkeys((terms.op, problem.of_positives.op))
    return Step(
        pairs=_pairs(asked),
        backend=who.backend,
        path=plan.path,
        with_gradient=asked.with_gradient,
        gemms=gemms,
        workspace=plan.workspace,
        matrix=score.N * score.M * score.dtype.itemsize,
        skipping=plan.skipping if score.skip_below or score.phi.compact else "",
        declined={name: why for name, why in refusals(problem, *ops).items() if name != who.backend and why},
    )


def _pairs(asked: Asked) -> str:
    problem = asked.problem
    summed = "log-sum-exp" if problem.negatives.op == "logsumexp" else f"sum of {problem.negatives.op}"
    what = f"{'largest' if asked.operator == 'top_k' else summed} of each row{' and column' if problem.cols else ''}"
    if asked.operator == "attend":
        what = f"softmax-weighted sums of values of {asked.width} columns"
    if asked.operator == "total":
        what = "log-sum-exp of all"
    dtype = str(problem.input_dtype).removeprefix("torch.")
    scores = f"{problem.N}×{problem.M} {problem.kind} scores, D = {problem.D}, {dtype} on {problem.device}"
    return f"{scores}: {what}{'; positives by ids, in sweeps of their own' if problem.positives.several else ''}"
