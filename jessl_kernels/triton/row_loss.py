"""A loss of rows in the five stages of `backends/executor.py`, by kernels, in few launches.

    rows_in   normalize_and_score          sums   row_sums, whose parts stay unmerged
    join      finalize_rows                grads  pull, or the routes of `dispatch.py`
    rows_out  rows_backward

What arrives at a row's sums is made as a share of the loss's weight, by which only the finished gradient is multiplied. So no
half-precision weight depends on the number of rows. Three sweeps may make more than their own:

    of rows alone, by a softmax  the sweep for the sums leaves the gradient of x, up to what arrives
    of a ψ, what arrives known   the sweep for the gradient of x makes the sums
    symmetric                    U + Uᵀ in one sweep, for each row is a column as well

fp16, which knows no share below 6e-8, and what is not fused take the sweeps of `dispatch.py` in the middle.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..backends.executor import Executor
from ..backends.order import Order
from ..problem.exclude import IdPair
from ..problem.row_loss import Loss, RowProblem
from ..problem.score import Score
from ..problem.types import NOTHING, Gradients, Needs, RowSums, SideSums, Sums, Terms, Weights
from . import blocks, dispatch, finalize, launch, shapes, words
from .dispatch import Sweep
from .launch import MAX_PROGRAMS, NO_SIDE, NO_SUMS, Attended, Problem, Pulled, Side, Sides, aligned, one_part, over_rows
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
    given = (problem.positives.score, problem.positives.col_score, problem.also)
    wanted = needs.any or any(t is not None and t.requires_grad for t in given)
    order = Order(problem)
    run = _Run(order.problem, order.loss(loss), order.needs(needs), workspace, *order.reach())
    value, made = run.result(wanted)
    return value, order.gradients_back(made, needs)


class _Run:
    """One loss on its way.

    rows                its rows in, and out
    negatives           the scores of what is neither positive nor excluded; several those of positives, where rows have several
    weight, counted     0-d, of each row; and what that is divided by, (2 MAX_PROGRAMS,) numbers to add up, or None
    to_rows, to_cols    what arrives at the sums over negatives, as shares of the weight
    to_several, …       at those over positives
    pair, col_pair      (N,), (M,) at single positives, or at given scores
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
        self.weights, self.col_weights = (None if t is None else aligned(t) for t in (loss.weights, loss.col_weights))
        if problem.cols and loss.reduction == "mean" and N != M:
            shares = self.losses.new_full((M,), N / M)
            self.col_weights = shares if self.col_weights is None else shares * self.col_weights
        self.positive, self.col_positive = rows.positive, rows.positive
        if problem.positives.score is not None:
            self.positive = aligned(problem.positives.score.detach())
        if problem.positives.col_score is not None:
            self.col_positive = aligned(problem.positives.col_score.detach())
        self.also = None if problem.also is None else aligned(problem.also.detach())
        self.pair = None if self.positive is None else torch.empty_like(self.positive)
        self.col_pair = None if problem.positives.col_score is None else torch.empty_like(self.col_positive)  # type: ignore[arg-type]
        self.of_also = None if self.also is None else torch.empty_like(self.also)
        self.to_rows = self.to_cols = self.to_several = self.to_several_cols = NO_SIDE
        self.lse_range: Tensor | None = None

    def result(self, wanted: bool) -> tuple[Tensor, Gradients]:
        problem = self.problem
        made = Gradients.empty(self.losses, problem.N, problem.M, problem.D, NOTHING)
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
        """Losses, and what arrives at the sums."""
        problem = self.problem
        of_rows = of_cols = NO_SUMS
        if self.several is not None:
            terms = problem.of_positives._replace(linear=True)
            of_rows, of_cols = dispatch.parts(self.several, terms, problem.cols, self.workspace, self.reach)
        if problem.negatives.op == "logsumexp" and (problem.cols or self.negatives.symmetric):
            self.lse_range = self.losses.new_empty(2 * MAX_PROGRAMS + len(problem.negatives.tilts))
        self.to_rows, self.to_several = self.side(problem.N), self.side_of_several(problem.N)
        self.finalize(row, of_rows, self.to_rows, self.to_several, slice(0, problem.N), origin=row)
        if problem.cols:
            self.to_cols, self.to_several_cols = self.side(problem.M), self.side_of_several(problem.M)
            self.finalize(col, of_cols, self.to_cols, self.to_several_cols, slice(0, problem.M), second=True)

    def side(self, n: int) -> Side:
        terms, new = self.problem.negatives, self.losses.new_empty
        tilts, lse = len(terms.tilts), terms.op == "logsumexp"
        shared = lse and (self.problem.cols or self.negatives.symmetric)
        return Side(new(tilts, n) if lse else None, new(tilts, n), new(tilts, n) if shared else None)

    def side_of_several(self, n: int) -> Side:
        if self.several is None:
            return NO_SIDE
        new, lse = self.losses.new_empty, self.problem.of_positives.op == "logsumexp"
        spread = [new(n), new(n)] if lse and self.loss.join in words.WITH_SPREAD else [None, None]
        return Side(new(1, n) if lse else None, new(1, n), None, *spread)

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
        whole = self.losses.sum()
        return whole if self.counted is None else whole / self.counted.sum().clamp_min(1)

    # Sweeps for gradients: by fused kernels, and by all others.

    def _sweeps(self) -> list[Sweep]:
        """Over the negatives, and over positives where rows have several."""
        problem, reach = self.problem, (self.reach, self.reach_of_columns)

        def sweep(score: Score, terms: Terms, row: Side, col: Side, lse_range: Tensor | None, reach: tuple) -> Sweep:
            # Of a symmetric problem each row is a column as well.
            return Sweep(score, terms, Sides(row, row if score.symmetric else col, lse_range), *reach)

        found = [sweep(self.negatives, problem.negatives, self.to_rows, self.to_cols, self.lse_range, (None, None))]
        if self.several is not None:
            found.append(sweep(self.several, problem.of_positives, self.to_several, self.to_several_cols, None, reach))
        return found

    def _fused(self, made: Gradients) -> None:
        needs, problem, score = self.needs, self.problem, self.negatives
        attended, found = None, None
        if self._known():
            found = launch.pull(
                Problem.of(score), Sides(self._known_side()), problem.negatives, self.workspace, psi=True, bias=needs.row_bias,
                scale=needs.scale,
            )  # fmt: skip
            assert found.psi is not None
            self.join(Sums(None, found.psi[None]), NO_SUMS)
        elif self._attends():
            shift = dispatch.HALF_SHIFT if score.x.dtype == torch.float16 else 0
            attended = launch.attend(Problem.of(score), needs.scale, shift, self.workspace)
            self.join(attended.sums, NO_SUMS)
        else:
            self.join(*self.parts())
        if attended is not None:
            if needs.x:
                made.x = self._out(
                    self.rows.x, slice(0, problem.N), attended.embedding, of_parts=attended.sums.reference
                )
            if attended.mean is not None:
                made.scale = self._scale_of_attended(attended)
        elif needs.x or needs.scale or needs.row_bias or (needs.col_bias and not problem.y):
            self._along_rows(found, made)
        if self.rows.y is not None and (_some(needs.y) or needs.col_bias):
            self._along_columns(made)

    def _along_rows(self, first: Pulled | None, made: Gradients) -> None:
        needs, embeddings = self.needs, []
        for sweep in self._sweeps():
            found, first = first or sweep.pull(self.workspace, bias=needs.row_bias, scale=needs.scale), None
            embeddings.append(found.embedding)
            if found.bias is not None:
                made.row_bias = _plus(made.row_bias, launch.merged(found.bias))
            if found.scale is not None:
                of_pairs = found.scale.sum(dtype=torch.float64)
                # Of a symmetric problem each pair is there from both its ends.
                made.scale = _plus(made.scale, of_pairs * 0.5 if sweep.score.symmetric else of_pairs)
            if not self.problem.y and not sweep.score.symmetric:
                other = sweep.transposed().pull(self.workspace, bias=needs.col_bias)
                embeddings.append(other.embedding)
                if other.bias is not None:
                    made.col_bias = _plus(made.col_bias, launch.merged(other.bias))
        if needs.x:
            made.x = self._out(self.rows.x, slice(0, self.problem.N), launch.together(embeddings))

    def _along_columns(self, made: Gradients) -> None:
        needs, embeddings, here = self.needs, [], self.needs.y
        if self.negatives.x.dtype == torch.float16:  # whose weights are taken over the largest
            of_columns = NOTHING._replace(y=here)
            into = Gradients.zeros(self.losses, self.problem.N, self.problem.M, self.problem.D, of_columns)
            self._add(self._sweeps(), of_columns, into)
            assert self.rows.y is not None
            made.y = self._out(self.rows.y, here, into.y[None], scaled=True)
            return
        for sweep in self._sweeps():
            rows = None if needs.col_bias else here
            found = sweep.transposed().pull(self.workspace, bias=needs.col_bias, rows=rows)
            embeddings.append(found.embedding if rows is not None else found.embedding[:, here].contiguous())
            if found.bias is not None:
                made.col_bias = _plus(made.col_bias, launch.merged(found.bias))
        if _some(here) and self.rows.y is not None:
            made.y = self._out(self.rows.y, here, launch.together(embeddings))

    def _known(self) -> bool:
        """Whether what arrives at a sum of ψ is known before that is, so that its sweep can make gradients."""
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

    def _scale_of_attended(self, attended: Attended) -> Tensor:
        reference, side = attended.sums.reference, self.to_rows
        assert reference is not None and attended.mean is not None and side.reference is not None
        assert side.factor is not None
        share = (reference[0] - side.reference).exp() * side.factor  # (ranges, N)
        return (attended.mean.double() * share).sum()

    def _by_routes(self, made: Gradients, route: str) -> None:
        problem, needs, score, terms = self.problem, self.needs, self.negatives, self.problem.negatives
        into = Gradients.zeros(self.losses, problem.N, problem.M, problem.D, needs)
        alone, sweeps = not problem.cols and self.several is None, []
        if alone and dispatch.SWEEPS.at_once(score, terms):
            self.to_rows = self.side(problem.N)
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
        """Gradients by the routes of `dispatch.py`, α multiplied in."""
        for sweep in sweeps:
            half = sweep.score.x.dtype == torch.float16
            if shapes.route(sweep.score) == "blocks" and not half:
                blocks.pull_back(sweep.score, sweep.terms, sweep.sides, None, needs, into, self.workspace)
            else:
                row, col = sweep.sides.row.weights(), sweep.sides.col.weights() if self.problem.cols else None
                dispatch.SWEEPS.grads(sweep.score, sweep.terms, row, col, needs, into, self.workspace)

    def _weigh(self, here: slice, sums: Sums) -> Weights:
        """What arrives at the sums of some rows, as shares of the weight."""
        self.finalize(one_part(sums), NO_SUMS, self.to_rows, NO_SIDE, here, losses=False)
        reference, factor = self.to_rows.reference, self.to_rows.factor
        assert factor is not None
        return Weights(None if reference is None else reference[:, here], factor[:, here])

    # Rows out.

    def _out(
        self, rows: Rows, here: slice, parts: Tensor, *, scaled: bool = False, of_parts: Tensor | None = None
    ) -> Tensor:
        """The gradient of some rows as they were given, from what sweeps left."""
        if rows is self.rows.y or self.rows.y is None:
            parts = self._with_indexed(parts, here, scaled)
        return self.rows.out(
            rows,
            here,
            parts,
            self.pair,
            self.weight,
            self.counted,
            scaled=scaled,
            of_parts=of_parts,
            to_rows=self.to_rows,
        )

    def _with_indexed(self, parts: Tensor, here: slice, scaled: bool) -> Tensor:
        """With what arrives at columns that an index names, a row's partner or that of several; sums by numbers, in a fixed order
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
        """(N,) what arrives at α t of each row and its partner."""
        assert self.pair is not None and self.rows.raw is not None
        if self.problem.phi.name == "identity":
            return self.pair
        return self.pair * self.problem.phi.derivative((self.rows.raw * self.scale).to(self.dtype))

    def _finish(self, made: Gradients) -> None:
        """The other gradients: of partners too, and times the weight."""
        needs, of_all = self.needs, self._of_all
        if self.rows.partners and self.pair is not None:
            if needs.scale and self.rows.raw is not None:
                made.scale = made.scale + (self._at_partners().double() * self.rows.raw).sum()  # fp64, since it cancels
            if needs.row_bias:
                made.row_bias = made.row_bias + self.pair
            if needs.col_bias:
                partner = self.rows.partner()
                at = torch.where(partner >= 0, self.pair, 0.0)
                made.col_bias = made.col_bias.index_put((partner.clamp_min(0),), at, accumulate=True)
        if needs.scale:
            made.scale = of_all(made.scale)
        if needs.row_bias:
            made.row_bias = of_all(made.row_bias)
        if needs.col_bias:
            made.col_bias = of_all(made.col_bias)
        if self.problem.positives.score is not None and self.pair is not None:
            made.score = of_all(self.pair)
        if self.col_pair is not None:
            made.col_score = of_all(self.col_pair)
        if self.of_also is not None:
            made.also = of_all(self.of_also)

    def _of_all(self, shares: Tensor) -> Tensor:
        """What shares of the weight come to."""
        weight = self.weight if self.counted is None else self.weight / self.counted.sum().clamp_min(1)
        return shares * weight.to(shares.dtype)


def _some(here: slice) -> bool:
    return here.stop > here.start


def _plus(a: Tensor, b: Tensor) -> Tensor:
    """The sum of both; the first is empty where nothing was there yet."""
    return a + b if a.numel() else b
