"""A loss of rows in the five stages of `backends/executor.py`, by kernels and in few launches.

    rows_in   normalize_and_score          sums   row_sums, whose parts stay unmerged
    join      finalize_rows                grads  pull, or the routes of `dispatch.py`
    rows_out  rows_backward

The gradient of a row's sum is stored as a share of the loss's weight. Only the finished gradient is multiplied by that weight, so
no half-precision weight depends on the number of rows. In three cases one sweep does the work of two:

    rows alone, of a softmax     the sweep for the sums also makes the gradient of x, up to a factor of each row
    ψ with constant slopes       the sweep for the gradient of x also makes the sums
    symmetric                    one sweep makes U + Uᵀ, because each row is a column as well

fp16, which has no share below 6e-8, and problems that are not fused take the sweeps of `dispatch.py` in the middle.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..backends.executor import Executor
from ..backends.order import Order
from ..problem.exclude import IdPair
from ..problem.row_loss import Loss, RowProblem
from ..problem.types import NOTHING, Gradients, Needs, RowSums, SideSums, Sums, Terms, Weights
from . import blocks, dispatch, finalize, launch, shapes, words
from .dispatch import Sweep
from .launch import MAX_PROGRAMS, NO_SIDE, NO_SUMS, Problem, Pulled, Side, Sides, aligned, one_part, over_rows
from .launch_cache import launch_cached
from .rows import Prepared, Rows

_executor = Executor(dispatch.SWEEPS)
row_grads, total = _executor.row_grads, _executor.total


def row_sums(problem: RowProblem, workspace: int) -> RowSums:
    sums = _executor.row_sums(problem, workspace)
    if sums.col is None or sums.col.negatives is not sums.row.negatives:
        return sums
    copied = Sums(*(None if t is None else t.clone() for t in sums.row.negatives))  # pyright: ignore[reportArgumentType]
    return sums._replace(col=SideSums(copied, sums.col.positives))


def row_loss(problem: RowProblem, loss: Loss, needs: Needs, workspace: int) -> tuple[Tensor, Gradients]:
    """The value, 0-d, and the gradients."""
    if loss.join not in words.JOINS or (problem.cols and (not problem.y or loss.reduction == "mean_counted")):
        return _executor.row_loss(problem, loss, needs, workspace)
    order = Order(problem)
    run = _Run(order.problem, order.loss(loss), order.needs(needs), workspace, *order.reach())
    value, made = run.result(needs.any)
    return value, order.gradients_back(made, needs)


class _Run:
    """One loss while it is computed.

    rows                its rows, in and out
    negatives           the scores of the negatives; several: those of the positives, if a row may have several
    weight, counted     the weight of each row, 0-d; and its divisor, the sum of (2 MAX_PROGRAMS,) numbers, or None
    to_rows, to_cols    the weights of the sums over negatives, as shares of the loss's weight
    to_several, …       the weights of the sums over several positives
    pair, col_pair      (N,), (M,) gradients of the scores of single positives, or of given scores
    """

    def __init__(
        self, problem: RowProblem, loss: Loss, needs: Needs, workspace: int, reach: IdPair | None, transposed: IdPair | None
    ):  # fmt: skip
        self.problem, self.loss, self.needs, self.workspace = problem, loss, needs, workspace
        self.reach, self.reach_of_columns = reach, transposed
        self.scale = launch.scale_of(problem)
        self.rows = rows = Prepared(problem, self.scale)
        score = problem.score(rows.x.unit, None if rows.y is None else rows.y.unit)
        self.negatives = problem.of_negatives_alone(score)
        self.several = problem.of_positives_alone(score) if problem.positives.several else None
        N, M = problem.N, problem.M
        self.weight = self.scale.new_full((), loss.factor / N if loss.reduction == "mean" else loss.factor)
        self.dtype, new = problem.dtype, self.scale.new_empty
        self.losses = new(2 * MAX_PROGRAMS, dtype=self.dtype)
        counting = loss.reduction == "mean_counted" and problem.positives.there
        self.counted = torch.empty_like(self.losses) if counting else None
        self.weights, self.col_weights = aligned(loss.weights), aligned(loss.col_weights)
        if problem.cols and loss.reduction == "mean" and N != M:
            shares = self.losses.new_full((M,), N / M)
            self.col_weights = shares if self.col_weights is None else shares * self.col_weights
        given, of_cols, also = (
            None if t is None else aligned(t.detach())
            for t in (problem.positives.score, problem.positives.col_score, problem.also)
        )
        self.positive = rows.positive if given is None else given
        self.col_positive = rows.positive if of_cols is None else of_cols
        self.also = also
        self.pair = None if self.positive is None else torch.empty_like(self.positive)
        self.col_pair = None if of_cols is None else torch.empty_like(of_cols)
        self.of_also = None if also is None else torch.empty_like(also)
        self.to_rows = self.to_cols = self.to_several = self.to_several_cols = NO_SIDE
        self.lse_range: Tensor | None = None

    def result(self, wanted: bool) -> tuple[Tensor, Gradients]:
        problem = self.problem
        made = Gradients.empty(self.losses, problem, NOTHING)
        route = shapes.route(self.negatives)
        if not wanted:
            self.join(*self.parts())
            return self.value(), made
        if route == "fused" and (self.negatives.x.dtype != torch.float16 or self._attends()):
            self._fused(made)
        else:
            self._by_routes(made, route)
        self._finish(made)
        return self.value(), made

    def parts(self) -> tuple[Sums, Sums]:
        return dispatch.parts(self.negatives, self.problem.negatives, self.problem.cols, self.workspace)

    def join(self, row: Sums, col: Sums) -> None:
        """Make the losses, and the gradients of the sums."""
        problem = self.problem
        of_rows = of_cols = NO_SUMS
        if self.several is not None:
            terms = problem.of_positives._replace(linear=True)
            of_rows, of_cols = dispatch.parts(self.several, terms, problem.cols, self.workspace, self.reach)
        if problem.negatives.op == "logsumexp" and (problem.cols or self.negatives.symmetric):
            self.lse_range = self.losses.new_empty(2 * MAX_PROGRAMS + len(problem.negatives.tilts))
        self.to_rows, self.to_several = self.sides(problem.N)
        self.finalize(row, of_rows, self.to_rows, self.to_several, slice(0, problem.N), origin=row)
        if problem.cols:
            self.to_cols, self.to_several_cols = self.sides(problem.M)
            self.finalize(col, of_cols, self.to_cols, self.to_several_cols, slice(0, problem.M), second=True)

    def sides(self, n: int) -> tuple[Side, Side]:
        """Room for the gradients of the sums over negatives and over several positives."""
        terms, new = self.problem.negatives, self.losses.new_empty
        tilts, lse = len(terms.tilts), terms.op == "logsumexp"
        shared = lse and (self.problem.cols or self.negatives.symmetric)
        side = Side(new(tilts, n) if lse else None, new(tilts, n), new(tilts, n) if shared else None)
        if self.several is None:
            return side, NO_SIDE
        lse = self.problem.of_positives.op == "logsumexp"
        spread = [new(n), new(n)] if lse and self.loss.join in words.WITH_SPREAD else [None, None]
        return side, Side(new(1, n) if lse else None, new(1, n), None, *spread)

    def finalize(
        self, parts: Sums, of_several: Sums, to_rows: Side, to_several: Side, here: slice, *, second: bool = False,
        origin: Sums = NO_SUMS, losses: bool = True,
    ) -> None:  # fmt: skip
        problem, terms, positive_terms = self.problem, self.problem.negatives, self.problem.of_positives
        given = problem.positives.score is not None
        n = problem.M if second else problem.N
        pair, before = self.pair, None
        if second:
            pair, before = (self.col_pair, None) if given else (self.pair, self.pair)
        lse_range = self.lse_range if losses else None
        origin = origin if lse_range is not None else NO_SUMS
        counts = [0 if p.total is None else p.total.shape[1] for p in (parts, of_several, origin)]
        grid, options = over_rows(here.stop - here.start, max(counts[:2]))
        launch_cached(
            finalize.finalize_rows, grid,
            parts.total, parts, of_several, self.col_positive if second else self.positive, None if second else self.rows.index,
            None if second else self.also, self.col_weights if second else self.weights, self.weight, before, to_rows, to_several,
            pair if losses else None, self.of_also if losses and not second else None, self.losses if losses else None,
            self.counted if losses else None, lse_range, origin, *counts, problem.N, n, here.start,
            here.stop - here.start, self.rows.shift if second and not given else 0, SECOND=second, OP=terms.op, TILTS=terms.tilts,
            POSITIVE_OP=positive_terms.op, POSITIVE_TILT=positive_terms.tilts[0], JOIN=self.loss.join, **options,
        )  # fmt: skip

    def value(self) -> Tensor:
        return self._counted(self.losses.sum())

    def _counted(self, total: Tensor) -> Tensor:
        return total if self.counted is None else total / self.counted.sum().clamp_min(1)

    # Sweeps for gradients: by fused kernels, or by the other routes.

    def _sweeps(self) -> list[Sweep]:
        """Sweeps over the negatives, and over several positives. In a symmetric problem each row is a column as well."""
        problem, score, several = self.problem, self.negatives, self.several
        sides = Sides(self.to_rows, self.to_rows if score.symmetric else self.to_cols, self.lse_range)
        found = [Sweep(score, problem.negatives, sides, None, None)]
        if several is not None:
            sides = Sides(self.to_several, self.to_several if several.symmetric else self.to_several_cols)
            found.append(Sweep(several, problem.of_positives, sides, self.reach, self.reach_of_columns))
        return found

    def _fused(self, made: Gradients) -> None:
        needs, problem = self.needs, self.problem
        if self._attends():
            self._attend(made)
        elif self._known():
            found = launch.pull(
                Problem.of(self.negatives), Sides(self._known_side()), problem.negatives, self.workspace, psi=True,
                bias=needs.row_bias, scale=needs.scale,
            )  # fmt: skip
            assert found.psi is not None
            self.join(Sums(None, found.psi[None]), NO_SUMS)
            self._along_rows([found], made)
        else:
            self.join(*self.parts())
            if needs.x or needs.scale or needs.row_bias or (needs.col_bias and not problem.y):
                bias, scale = needs.row_bias, needs.scale
                self._along_rows([s.pull(self.workspace, bias=bias, scale=scale) for s in self._sweeps()], made)
        if self.rows.y is not None and (_some(needs.y) or needs.col_bias):
            self._along_columns(self.rows.y, made)

    def _attend(self, made: Gradients) -> None:
        half = self.negatives.x.dtype == torch.float16
        sums, found = launch.attend(
            Problem.of(self.negatives), self.needs.scale, dispatch.HALF_SHIFT if half else 0, self.workspace
        )
        self.join(sums, NO_SUMS)
        if self.needs.x:
            made.x = self._out(self.rows.x, slice(0, self.problem.N), found.embedding, of_parts=sums.reference)
        if found.scale is not None:
            reference, side = sums.reference, self.to_rows
            assert reference is not None and side.reference is not None and side.factor is not None
            share = (reference[0] - side.reference).exp() * side.factor  # (ranges, N)
            made.scale = (found.scale.double() * share).sum()

    def _along_rows(self, found: list[Pulled], made: Gradients) -> None:
        """Gradients from the sums that each sweep pulled along rows; along columns too, if Y is X."""
        needs, sweeps = self.needs, self._sweeps()
        if needs.row_bias:
            made.row_bias = launch.merged(launch.together([each.bias for each in found]))
        for sweep, each in zip(sweeps, found, strict=True):
            if each.scale is not None:
                of_pairs = each.scale.sum(dtype=torch.float64)
                # A symmetric problem counts each pair from both its ends.
                of_pairs = of_pairs * 0.5 if sweep.score.symmetric else of_pairs
                made.scale = made.scale + of_pairs if made.scale.numel() else of_pairs
        if not self.problem.y:
            others = [s.transposed().pull(self.workspace, bias=needs.col_bias) for s in sweeps if not s.score.symmetric]
            found = found + others
            if needs.col_bias:
                made.col_bias = launch.merged(launch.together([each.bias for each in others]))
        if needs.x:
            parts = launch.together([each.embedding for each in found])
            made.x = self._out(self.rows.x, slice(0, self.problem.N), parts)

    def _along_columns(self, y: Rows, made: Gradients) -> None:
        needs, here = self.needs, self.needs.y
        if self.negatives.x.dtype == torch.float16:  # its weights are divided by the largest
            of_columns = NOTHING._replace(y=here)
            into = Gradients.zeros(self.losses, self.problem, of_columns)
            self._add(self._sweeps(), of_columns, into)
            made.y = self._out(y, here, into.y[None], scaled=True)
            return
        rows = None if needs.col_bias else here
        found = [s.transposed().pull(self.workspace, bias=needs.col_bias, rows=rows) for s in self._sweeps()]
        if needs.col_bias:
            made.col_bias = launch.merged(launch.together([each.bias for each in found]))
        if _some(here):
            parts = launch.together([each.embedding for each in found])
            made.y = self._out(y, here, parts if rows is not None else parts[:, here].contiguous())

    def _known(self) -> bool:
        """Whether the gradient of a sum of ψ is known before that sum, so that one sweep makes sums and gradients."""
        terms, loss = self.problem.negatives, self.loss.join
        alone = bool(self.problem.y) and not self.problem.cols and self.several is None and len(terms.tilts) == 1
        return alone and terms.op != "logsumexp" and loss in words.CONSTANT and self.rows.index is None

    def _known_side(self) -> Side:
        tilt = self.problem.negatives.tilts[0]
        if self.weights is None:
            return Side(factor=self.losses.new_full((1, self.problem.N), tilt))
        return Side(factor=(self.weights.to(self.dtype) * tilt)[None])

    def _attends(self) -> bool:
        needs, alone = self.needs, bool(self.problem.y) and not self.problem.cols and self.several is None
        wanted = (needs.x or needs.scale) and not needs.row_bias and not needs.col_bias
        return alone and wanted and self.problem.negatives == Terms() and dispatch.attends(self.negatives)

    def _by_routes(self, made: Gradients, route: str) -> None:
        problem, needs, score, terms = self.problem, self.needs, self.negatives, self.problem.negatives
        into = Gradients.zeros(self.losses, problem, needs)
        alone, sweeps = not problem.cols and self.several is None, []
        if alone and dispatch.SWEEPS.at_once(score, terms):
            self.to_rows, _ = self.sides(problem.N)
            sums = dispatch.SWEEPS.sums_and_grads(score, terms, self._weigh, needs, into, self.workspace)
            self.join(one_part(sums), NO_SUMS)
        elif route == "blocks" and self._known():
            psi = self.losses.new_zeros(problem.N)
            sides, unit = dispatch.scaled(score, self._known_side().weights(), None, by_row=False)
            blocks.pull_back(score, terms, sides, unit, needs, into, self.workspace, psi)
            self.join(Sums(None, psi[None, None]), NO_SUMS)
        else:
            self.join(*self.parts())
            sweeps = self._sweeps()
        self._add(sweeps, needs, into)
        if needs.x:
            made.x = self._out(self.rows.x, slice(0, problem.N), into.x[None], scaled=True)
        if _some(needs.y) and self.rows.y is not None:
            made.y = self._out(self.rows.y, needs.y, into.y[None], scaled=True)
        made.scale, made.row_bias, made.col_bias = into.scale, into.row_bias, into.col_bias

    def _add(self, sweeps: list[Sweep], needs: Needs, into: Gradients) -> None:
        """Add gradients by the routes of `dispatch.py`, with α multiplied in."""
        for sweep in sweeps:
            half = sweep.score.x.dtype == torch.float16
            if shapes.route(sweep.score) == "blocks" and not half:
                blocks.pull_back(sweep.score, sweep.terms, sweep.sides, None, needs, into, self.workspace)
            else:
                row, col = sweep.sides.row.weights(), sweep.sides.col.weights() if self.problem.cols else None
                dispatch.SWEEPS.grads(sweep.score, sweep.terms, row, col, needs, into, self.workspace)

    def _weigh(self, here: slice, sums: Sums) -> Weights:
        """The weights of the sums of some rows, as shares of the loss's weight."""
        self.finalize(one_part(sums), NO_SUMS, self.to_rows, NO_SIDE, here, losses=False)
        reference, factor = self.to_rows.reference, self.to_rows.factor
        assert factor is not None
        return Weights(None if reference is None else reference[:, here], factor[:, here])

    # Rows out.

    def _out(
        self, rows: Rows, here: slice, parts: Tensor, *, scaled: bool = False, of_parts: Tensor | None = None
    ) -> Tensor:
        """The gradient of some rows as they were given, from the parts that sweeps left."""
        if rows is self.rows.y or self.rows.y is None:
            parts = self._with_indexed(parts, here, scaled)
        weighted = parts, self.pair, self.weight, self.counted
        return self.rows.out(rows, here, *weighted, scaled=scaled, of_parts=of_parts, to_rows=self.to_rows)

    def _with_indexed(self, parts: Tensor, here: slice, scaled: bool) -> Tensor:
        """Add the gradients of columns that an index names as partners; several rows may share one. The sums have a fixed order,
        also on a GPU."""
        index, problem = self.rows.index, self.problem
        if index is None:
            return parts
        inside = (index >= here.start) & (index < here.stop)
        x = self.rows.x.unit.to(self.dtype)
        apart = x if problem.kind == "dot" else x - self.rows.keys.index_select(0, index.clamp_min(0)).to(self.dtype)
        at = torch.where(inside, self._at_partners(), 0.0)
        if scaled:
            at = at * self.scale * (1 if problem.kind == "dot" else 2)
        whole = launch.merged(parts)
        place = torch.where(inside, index - here.start, 0)
        whole.index_put_(
            (place,), torch.where(inside[:, None], at.to(self.dtype)[:, None] * apart, 0.0), accumulate=True
        )
        return whole[None]

    def _at_partners(self) -> Tensor:
        """(N,) the gradient of α t of each row and its partner."""
        assert self.pair is not None and self.rows.raw is not None
        if self.problem.phi.name == "identity":
            return self.pair
        return self.pair * self.problem.phi.derivative((self.rows.raw * self.scale).to(self.dtype))

    def _finish(self, made: Gradients) -> None:
        """Finish the other gradients: add those of partners, and multiply by the weight."""
        needs, of_all = self.needs, self._of_all
        if self.rows.partners and self.pair is not None:
            if needs.scale and self.rows.raw is not None:
                made.scale = made.scale + (self._at_partners().double() * self.rows.raw).sum()  # fp64: it cancels
            if needs.row_bias:
                made.row_bias = made.row_bias + self.pair
            if needs.col_bias:
                partner = self.rows.partner()
                at = torch.where(partner >= 0, self.pair, 0.0)
                made.col_bias = made.col_bias.index_put((partner.clamp_min(0),), at, accumulate=True)
        for name in ("scale", "row_bias", "col_bias"):
            if getattr(needs, name):
                setattr(made, name, of_all(getattr(made, name)))
        if self.problem.positives.score is not None and self.pair is not None:
            made.score = of_all(self.pair)
        if self.col_pair is not None:
            made.col_score = of_all(self.col_pair)
        if self.of_also is not None:
            made.also = of_all(self.of_also)

    def _of_all(self, shares: Tensor) -> Tensor:
        """Shares of the weight, times the weight."""
        return shares * self._counted(self.weight).to(shares.dtype)


def _some(here: slice) -> bool:
    return here.stop > here.start
