"""C++ on the CPU: tiles of scores that stay in cache, on all of torch's threads. csrc/cpu computes; this module calls it.

    one side, slopes known with the sums   3 products     a strip of scores is kept until its log-sum-exps are known
    both sides, or "none"                  4              one pass for the values, one for the gradients
    symmetric                              2              triangular tiles: half of S, twice
    sum of ψ, slopes constant              3, symmetric 1.5
    value alone                            1, symmetric ½

Scores that are kept between two passes save a product. Positives by ids take passes of their own, in the order of their ids, over
the tiles that hold any. The order of sums depends on the problem alone, so bits are the same on every run and at every number of
threads.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..native import native, native_status
from ..problem.exclude import IdPair, one_tensor
from ..problem.row_loss import Loss, RowProblem
from ..problem.score import Score
from ..problem.types import Attended, Gradients, Needs, Plan, RowSums, SideSlopes, SideSums, Slopes, Sums, Terms
from . import squared_distance
from .compiled import unknown_words
from .cpu_neighbours import count_nearer as count_nearer
from .cpu_neighbours import kth_distance as kth_distance
from .cpu_neighbours import reach_of_nearer as reach_of_nearer

_STATUS = native_status()
_core: Any = native() if _STATUS.available else None

NAME = "cpu"
DESCRIPTION = "C++, tiles in cache, CPU tensors"
MISSING = _STATUS.reason

DTYPES = {
    torch.float64: "float64",
    torch.float32: "float32",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}
MOST_KEPT, MOST_IDS, MOST_PIECES = 4, 8, 8  # csrc/pairwise/problem.h
TILE = 192  # rows of the largest tile; csrc/cpu/tile/tile.h
LARGE_ON_MACOS = 1 << 25  # rows · columns · dimensions: 512 × 512 × 128
FEW_DIMENSIONS = 16  # up to here differences cost no more than an expanded square and its corrections


def instruction_set() -> str:
    """The instruction set in use: the best compiled one that the processor runs, or the one that JESSL_SIMD names.

    Raises ValueError if JESSL_SIMD names one that is not available; so does every call.
    """
    return _core.simd_level()


def declines(problem: Score | RowProblem, op: str) -> list[str]:
    reasons = [MISSING] if MISSING else []
    if problem.device.type != "cpu":
        reasons.append(f"x is on {problem.device}")
    reasons += unknown_words(problem, op, "top_k")
    if len(problem.exclude.keep) > MOST_KEPT:
        reasons.append(f"more than {MOST_KEPT} diagonals in keep")
    if max(len(problem.exclude.same), len(problem.exclude.different)) > MOST_IDS:
        reasons.append(f"more than {MOST_IDS} pairs of ids")
    return reasons


def outrun(problem: Score | RowProblem, *ops: str) -> list[str]:
    """Why another backend should compute, unless this one is requested: Apple's library multiplies with units that our
    instructions cannot reach. The size from which that pays is estimated, not measured."""
    if sys.platform != "darwin" or MISSING or instruction_set() != "portable" or ops == ("nearest",):
        return []
    if problem.N * problem.M * problem.D < LARGE_ON_MACOS:
        return []
    return ["on macOS the library's products are faster than its portable code"]


def row_sums(problem: RowProblem, workspace: int) -> RowSums:
    native = _Problem.of_rows(problem)
    row, col = _new_sums(problem, problem.N), _new_sums(problem, problem.M) if problem.cols else None
    sides = native.side(row), native.side(col)
    _core.row_sums(native.core, native.row(problem), torch.get_num_threads(), workspace, *sides)
    return RowSums(row, col)


def row_grads(problem: RowProblem, sums: RowSums, slopes: Slopes, needs: Needs, workspace: int) -> Gradients:
    native = _Problem.of_rows(problem)
    out = _Out(native, problem, needs)
    sides = native.side(sums.row), native.side(sums.col)
    of_sides = native.slopes(slopes.row), native.slopes(slopes.col)
    row = native.row(problem)
    out.room_for_given(problem)
    _core.row_grads(
        native.core, row, torch.get_num_threads(), workspace, *sides, *of_sides, out.addresses(), out.given()
    )
    return out.grads


def row_loss(problem: RowProblem, loss: Loss, needs: Needs, workspace: int) -> tuple[Tensor, Gradients]:
    native = _Problem.of_rows(problem)
    out = _Out(native, problem, needs)
    if needs.any:
        out.room_for_given(problem)
    weights = native.vector(loss.weights), native.vector(loss.col_weights)
    row, of = native.row(problem), (loss.join, loss.reduction, loss.factor, *weights)
    value, *_ = _core.row_loss(native.core, row, torch.get_num_threads(), workspace, of, out.addresses(), out.given())
    return torch.full((), value, dtype=problem.dtype), out.grads


def total(score: Score, needs: Needs, workspace: int) -> tuple[Tensor, Gradients]:
    native = _Problem.of_score(score)
    out = _Out(native, score, needs)
    value, *_ = _core.total(native.core, torch.get_num_threads(), workspace, needs.any, out.addresses())
    return torch.full((), value, dtype=score.dtype), out.grads


def top_k(score: Score, k: int, workspace: int) -> tuple[Tensor, Tensor]:
    native = _Problem.of_score(score, ranks=True)
    values, indices = native.like.new_empty(score.N, k), torch.empty(score.N, k, dtype=torch.int64)
    _core.top_k(native.core, k, torch.get_num_threads(), workspace, _address(values), _address(indices))
    return values, indices


def attend(score: Score, values: Tensor, workspace: int) -> tuple[Tensor, Sums]:
    native = _Problem.of_score(score, ranks=True)
    out, sums = native.like.new_empty(score.N, values.shape[1]), Sums.empty(native.like, Terms(), score.N)
    totals = native.vector(sums.reference), native.vector(sums.total)
    batch = native.batch((values,))
    _core.attend(native.core, batch, torch.get_num_threads(), workspace, _address(out), totals)
    return out, sums


def attend_grads(
    score: Score, sums: Sums, of: Attended, needs: Needs, with_values: bool, workspace: int
) -> tuple[Gradients, Tensor]:
    native = _Problem.of_score(score, ranks=True)
    twins = score.y is None and needs.x  # the core makes both halves of X's gradient apart
    out = _Out(native, score, needs._replace(y=slice(0, score.M)) if twins else needs)
    of_values = native.like.new_empty(of.values.shape if with_values else 0)
    totals = native.vector(sums.reference), native.vector(sums.total)
    values, upstream = native.batch((of.values,)), native.batch((of.upstream,))
    _core.attend_grads(
        native.core, values, upstream, torch.get_num_threads(), workspace, totals, native.vector(of.inner), out.addresses(),
        _address(of_values),
    )  # fmt: skip
    if twins:
        out.grads.x += out.grads.y
    return out.grads, of_values


def plan(score: Score, terms: Terms, cols: bool, with_gradient: bool, reduction: str, workspace: int) -> Plan:
    native = _Problem.of_score(score)
    share = 0.5 if native.symmetric else 1.0
    # For "sum" and "mean" slopes are known with the sums, up to a factor; "logsumexp" is the total of the whole matrix.
    known, whole = reduction in ("sum", "mean") and terms.tilts == (1.0,), reduction == "logsumexp"
    if not with_gradient:
        gemms, route = share, "one pass"
    elif terms.op != "logsumexp" and known:
        gemms, route = 3 * share, "one pass"
    elif whole and _core.bounds_scores(native.core):
        gemms, route = 3 * share, "one pass, as norms and biases bound the scores"
    elif known and not cols and (rows := _core.strip_rows(native.core, workspace)):
        gemms, route = 3.0, f"scores of {rows} rows kept for the gradient"
    elif (known or whole) and _core.keeps_scores(native.core, native.scale_requires_grad, workspace):
        gemms, route = 3 * share, "two passes, scores kept for the second"
    else:
        gemms, route = 4 * share, "two passes"
    tiles = "triangular tiles" if native.symmetric else "tiles"
    squares = f"; {native.squares.why}" if score.kind == "sqdist" else ""
    return Plan(f"{tiles}, {route}, {instruction_set()}{squares}", gemms, workspace, _skipping(score, terms.op))


def _skipping(score: Score, op: str) -> str:
    if op != "logsumexp":
        return "none: only sums of exponentials leave pairs out"
    moved = max(score.N, score.M) > TILE and not score.exclude.different
    if score.phi.compact:
        return "columns beyond the support, exactly" if moved else "tiles beyond the support, exactly"
    order = "points put in order" if moved else "points stay in their order"
    return (
        f"tiles of {score.skip_below:g} of their row together, or less, by bounds and by what they add up to; {order}"
    )


class _Problem:
    """Scores as the core takes them, and the tensors that they point into, which must live as long."""

    def __init__(
        self,
        of: RowProblem | Score,
        x: tuple[Tensor, ...],
        y: tuple[Tensor, ...],
        symmetric: bool,
        skip_below: float = 0.0,
    ):
        self.keep: list[Tensor] = []
        self.symmetric = symmetric
        self.like = x[0].new_empty(0, dtype=of.dtype)
        self.scale_requires_grad = isinstance(of.scale, Tensor) and of.scale.requires_grad
        rows = self.batch(x)
        cols = self.batch(y) if y else rows
        self.squares = squares = self._squares(of, rows, cols)
        exclude = of.exclude
        self.core = _core.Problem(
            rows,
            cols,
            not y,
            symmetric,
            of.kind,
            of.phi.name,
            (*of.phi.parameters, 0.0, 0.0)[:2],
            of.scale_number,
            self.vector(of.row_bias),
            self.vector(of.col_bias),
            exclude.diagonals,
            exclude.keep,
            [self._ids(pair) for pair in exclude.same],
            [self._ids(pair) for pair in exclude.different],
            squares.taken,
            squares.far_apart,
            self.vector(squares.center),
            skip_below,
        )

    @staticmethod
    def of_rows(problem: RowProblem) -> _Problem:
        skip_below = problem.skip_below if problem.negatives.op == "logsumexp" else 0.0
        return _Problem(problem, problem.x, problem.y, _symmetric(problem), skip_below=skip_below)

    @staticmethod
    def of_score(score: Score, *, ranks: bool = False) -> _Problem:
        y = () if score.y is None else (score.y,)
        skip_below = 0.0 if ranks else score.skip_below
        return _Problem(score, (score.x,), y, score.symmetric and not ranks, skip_below)

    def row(self, problem: RowProblem) -> tuple[Any, ...]:
        """The parts of a loss of rows beside its scores."""
        p = problem.positives
        positives = (
            p.shift,
            self._pointer(p.index),
            self._pointer(p.row_ids),
            self._pointer(p.col_ids),
            self.vector(p.score),
            self.vector(p.col_score),
        )
        terms = _terms(problem.negatives), _terms(problem.of_positives)
        return *terms, positives, problem.normalize, problem.cols, self.vector(problem.also)

    def side(self, side: SideSums | None) -> list[int]:
        """The addresses of sums of negatives and of positives; 0 for absent ones."""
        if side is None:
            return [0] * 8
        return [self.vector(t) for sums in side for t in (sums or (None,) * 4)]

    def slopes(self, side: SideSlopes | None) -> list[int]:
        return [self.vector(t) for t in side or (None,) * 4]

    def vector(self, t: Tensor | None) -> int:
        """The address of numbers in the dtype of scores."""
        return 0 if t is None else self._pointer(t.detach().resolve_neg().to(self.like.dtype))

    def _pointer(self, t: Tensor | None) -> int:
        if t is None:
            return 0
        self.keep.append(t.contiguous())
        return self.keep[-1].data_ptr()

    def _ids(self, pair: IdPair) -> tuple[int, int]:
        return self._pointer(pair[0]), self._pointer(pair[1])

    def batch(self, pieces: tuple[Tensor, ...]) -> tuple[Any, ...]:
        if len(pieces) > MOST_PIECES:
            pieces = (torch.cat([piece.detach() for piece in pieces]),)
        return [self._piece(t) for t in pieces], pieces[0].shape[1], DTYPES[pieces[0].dtype]

    def _piece(self, t: Tensor) -> tuple[int, ...]:
        if t.is_neg():
            t = t.detach().resolve_neg()
        self.keep.append(t)
        return (t.data_ptr(), t.shape[0], *t.stride())

    def _squares(self, of: RowProblem | Score, x: tuple[Any, ...], y: tuple[Any, ...]) -> _Squares:
        if of.kind == "dot" or of.D <= FEW_DIMENSIONS:
            return _Squares("differences", 0.0, None, f"differences: only {of.D} dimensions")
        center = self.like.new_empty(of.D)
        radius, *_ = _core.squared_radius(x, y, torch.get_num_threads(), center.data_ptr())
        score_radius = abs(of.scale_number) * radius
        if score_radius == 0 or not score_radius < torch.inf:
            return _Squares("differences", 0.0, None, f"differences: scale·radius² = {score_radius:.3g}")
        if squared_distance.exact_enough(of, score_radius, of.dtype):  # pyright: ignore[reportArgumentType]
            return _Squares("product", 0.0, center, f"matrix products: scale·radius² = {score_radius:.3g}")
        far_apart = squared_distance.far_apart(of, score_radius)  # pyright: ignore[reportArgumentType]
        if far_apart is None:
            why = f"differences: φ has no bounded slope, scale·radius² = {score_radius:.3g}"
            return _Squares("differences", 0.0, None, why)
        why = f"differences for tiles with close pairs: scale·radius² = {score_radius:.3g}"
        return _Squares("product_if_far", far_apart, center, why)


class _Squares(NamedTuple):
    """How squares are taken, the u below which pairs are far apart, the center of the expansion, and the reason."""

    taken: str
    far_apart: float
    center: Tensor | None
    why: str


class _Out:
    """Gradients for the core to write."""

    def __init__(self, native: _Problem, of: RowProblem | Score, needs: Needs):
        # One empty tensor stands for all gradients that are not requested: ten allocations take as long as a small batch.
        like, D, nothing = native.like, of.D, native.like
        columns = needs.y.stop - needs.y.start
        self.grads = Gradients(
            like.new_empty(of.N, D) if needs.x else nothing,
            like.new_empty(columns, D) if columns > 0 else nothing,
            like.new_empty((), dtype=torch.float64) if needs.scale else nothing,
            like.new_empty(of.N) if needs.row_bias else nothing,
            like.new_empty(of.M) if needs.col_bias else nothing,
            nothing,
            nothing,
            nothing,
        )
        self.columns = needs.y

    def room_for_given(self, problem: RowProblem) -> None:
        """Make room for the gradients of scores and log-sum-exps given for each row."""
        like = self.grads.score
        for name, t in (
            ("score", problem.positives.score),
            ("col_score", problem.positives.col_score),
            ("also", problem.also),
        ):
            if t is not None:
                setattr(self.grads, name, like.new_empty(t.shape))

    def addresses(self) -> tuple[int, ...]:
        g = self.grads
        tensors = (g.x, g.y, g.scale, g.row_bias, g.col_bias)
        return *[_address(t) for t in tensors], self.columns.start, self.columns.stop

    def given(self) -> list[int]:
        g = self.grads
        return [_address(t) for t in (g.score, g.col_score, g.also)]


def _symmetric(problem: RowProblem) -> bool:
    """Whether s_ij = s_ji, and (i, j) is a negative exactly when (j, i) is, as far as this is known without reading ids."""
    positives, exclude = problem.positives, problem.exclude
    if problem.y or problem.row_bias is not None or problem.col_bias is not None or positives.index is not None:
        return False
    of_positives = () if positives.shift is None else (positives.shift, positives.shift - problem.M)
    out, kept = {*exclude.diagonals, *of_positives}, set(exclude.keep) - set(of_positives)
    pairs = (*exclude.same, *exclude.different)
    if positives.row_ids is not None and positives.col_ids is not None:
        pairs += ((positives.row_ids, positives.col_ids),)
    return all(d == {-k for k in d} for d in (out, kept)) and all(one_tensor(*pair) for pair in pairs)


def _terms(terms: Terms) -> tuple[str, tuple[float, ...], bool]:
    return terms.op, terms.tilts, terms.linear


def _new_sums(problem: RowProblem, n: int) -> SideSums:
    """Room for the sums of rows, or of columns."""
    like = problem.x[0].new_empty(0, dtype=problem.dtype)

    def room(terms: Terms, linear: bool) -> Sums:
        tilts = len(terms.tilts)
        reference = like.new_empty(tilts, n) if terms.op == "logsumexp" else None
        of_scores = (like.new_empty(n), like.new_empty(n)) if linear else (None, None)
        return Sums(reference, like.new_empty(tilts, n), *of_scores)

    negatives, positives = problem.negatives, problem.of_positives
    if not problem.positives.there:
        return SideSums(room(negatives, negatives.linear))
    several = problem.positives.several
    return SideSums(room(negatives, negatives.linear), room(positives, positives.linear or not several))


def _address(t: Tensor) -> int:
    return t.data_ptr() if t.numel() else 0
