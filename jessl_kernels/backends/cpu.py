"""C++ on the CPU: tiles of scores that stay in cache, on all of torch's threads; csrc/cpu computes, this module hands it over.

    one side, upstream known      3 products     a strip of scores is kept until its log-sum-exps are known
    both sides, or "none"         4              one pass for the values, one for the gradients
    symmetric                     2              triangular tiles: half of S, twice
    sum of ψ                      3, symmetric 1.5
    value alone                   1, symmetric ½

Sums are taken in an order that depends on the problem alone: the same bits on every run and at every number of threads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..native import native, native_status
from ..problem.row_loss import Labelling, Pairing
from ..problem.score import Score
from ..problem.types import Gradients, Needs, Plan, Upstream, Weighted, known_upstream
from . import spatial_sort, squared_distance

_STATUS = native_status()
_core: Any = native() if _STATUS.available else None

NAME = "cpu"
DESCRIPTION = "C++, tiles in cache, CPU tensors"
MISSING = _STATUS.reason

_Side = Upstream | Weighted

DTYPES = {
    torch.float64: "float64",
    torch.float32: "float32",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}
MOST_KEPT = 4  # diagonals in `keep`, csrc/pairwise/problem.h
FEW_DIMENSIONS = 16  # up to here differences cost no more than an expanded square and its corrections


def instruction_set() -> str:
    """Of those compiled into it, the one in use: the best that the processor runs, or what JESSL_SIMD asks for.

    Raises ValueError if it asks for what is not there, as every call does.
    """
    return _core.simd_level()


def declines(score: Score, op: str) -> list[str]:
    reasons = [MISSING] if MISSING else []
    if score.x.device.type != "cpu":
        reasons.append(f"x is on {score.x.device}")
    if score.phi.name not in ("identity", "clamp", "laplace"):
        reasons.append(f"φ {score.phi.name!r} is not compiled into it")
    if len(score.exclude.keep) > MOST_KEPT:
        reasons.append(f"more than {MOST_KEPT} diagonals in keep")
    return reasons


def reduce(score: Score, op: str, cols: bool, workspace: int) -> tuple[Tensor, Tensor]:
    row, col = _new(score, score.N), _new(score, score.M if cols else 0)
    problem = _Problem(score, op)
    _core.reduce(problem.native, op, torch.get_num_threads(), workspace, (_address(row), _address(col)))
    return problem.permutation.back(row, col)


def gradient(score: Score, op: str, row: Upstream, col: Upstream | None, needs: Needs, workspace: int) -> Gradients:
    problem = _Problem(score, op)
    out = _Out(problem, needs)
    sides = problem.sides(row, col)
    _core.gradient(problem.native, op, torch.get_num_threads(), workspace, *sides, out.addresses())
    return out.gradients()


def reduce_and_gradient(
    score: Score, op: str, row: Weighted, col: Weighted | None, needs: Needs, workspace: int
) -> tuple[Tensor, Tensor, Gradients]:
    problem = _Problem(score, op)
    out = _Out(problem, needs)
    values = _new(score, score.N), _new(score, 0 if col is None else score.M)
    sides = problem.sides(row, col)
    addresses = tuple(_address(value) for value in values)
    _core.reduce_and_gradient(
        problem.native, op, torch.get_num_threads(), workspace, *sides, addresses, out.addresses()
    )
    return *problem.permutation.back(*values), out.gradients()


def total(score: Score, needs: Needs, workspace: int) -> tuple[Tensor, Gradients]:
    problem = _Problem(score, "logsumexp")
    out = _Out(problem, needs)
    value, *_ = _core.total(problem.native, torch.get_num_threads(), workspace, any(needs.flatten()), out.addresses())
    return score.x.new_full((), value, dtype=score.dtype), out.gradients()


def paired(score: Score, op: str, pairing: Pairing, needs: Needs, workspace: int) -> tuple[Tensor, Gradients]:
    problem = _Problem(score, op)
    out = _Out(problem, needs)
    value, *_ = _core.paired(
        problem.native, op, torch.get_num_threads(), workspace, *pairing, any(needs.flatten()), out.addresses()
    )
    return score.x.new_full((), value, dtype=score.dtype), out.gradients()


def labelled(score: Score, labelling: Labelling, needs: Needs, workspace: int) -> tuple[Tensor, Gradients]:
    problem = _Problem(score, "logsumexp", moved=False)  # into the order of their labels
    out = _Out(problem, needs)
    labels, form, *rest = labelling
    arguments = problem.vector(labels), form == "out", *rest, any(needs.flatten()), out.addresses()
    value, *_ = _core.labelled(problem.native, torch.get_num_threads(), workspace, *arguments)
    return score.x.new_full((), value, dtype=score.dtype), out.gradients()


def top_k(score: Score, k: int, workspace: int) -> tuple[Tensor, Tensor]:
    problem = _Problem(score, "top_k", symmetric=False)
    values, indices = _new(score, score.N, k), torch.empty(score.N, k, dtype=torch.int64)
    _core.top_k(problem.native, k, torch.get_num_threads(), workspace, _address(values), _address(indices))
    return values, indices


def plan(score: Score, op: str, cols: bool, with_gradient: bool, reduction: str, workspace: int) -> Plan:
    symmetric, problem = score.symmetric, _Problem(score, op, moved=False)
    share, known, total = 0.5 if symmetric else 1.0, known_upstream(reduction), reduction == "logsumexp"
    if not with_gradient:
        gemms, route = share, "one pass"
    elif op != "logsumexp" and known:
        gemms, route = 3 * share, "one pass"
    elif total and _core.bounds_scores(problem.native):
        gemms, route = 3 * share, "one pass, as norms and biases bound the scores"
    elif known and not cols and (rows := _core.strip_rows(problem.native, workspace)):
        gemms, route = 3.0, f"scores of {rows} rows kept for the gradient"
    elif (known or total) and _core.keeps_scores(problem.native, score.scale.requires_grad, workspace):
        gemms, route = 3 * share, "two passes, scores kept for the second"
    else:
        gemms, route = 4 * share, "two passes"
    tiles = "triangular tiles" if symmetric else "tiles"
    squares = f"; {problem.squares.why}" if score.kind == "sqdist" else ""
    return Plan(f"{tiles}, {route}, {instruction_set()}{squares}", gemms, workspace, _skipping(score, op))


def _skipping(score: Score, op: str) -> str:
    if op != "logsumexp":
        return "none: only sums of exponentials leave pairs out"
    order = "points put in order" if spatial_sort.pays(score) else "points stay in their order"
    return (
        f"tiles of {score.skip_below:g} of their row together, or less, by bounds and by what they add up to; {order}"
    )


class _Problem:
    """A score as the core takes it, and the tensors it points into, which must live as long."""

    def __init__(self, score: Score, op: str, symmetric: bool | None = None, moved: bool = True):
        self.score = score
        self.symmetric = score.symmetric if symmetric is None else symmetric
        self.keep: list[Tensor] = []
        skip_below = score.skip_below if op == "logsumexp" else 0.0
        moved = moved and skip_below > 0 and spatial_sort.pays(score)
        if moved:
            score = score.in_one_piece()
        self.permutation = spatial_sort.permutation(score, self._put_in_order) if moved else spatial_sort.NONE
        score = self.permutation.apply(score)
        exclude, keys = score.exclude, self._batch(score.keys, score.rest)
        x, y = (keys if score.y is None else self._batch(score.x)), keys
        self.squares = squares = _squares(score, x, y)
        self.native = _core.Problem(
            x,
            y,
            self.symmetric,
            score.kind,
            score.phi.name,
            score.phi.parameters or (0.0, 0.0),
            float(score.scale.detach()),
            self.vector(score.row_bias),
            self.vector(score.col_bias),
            list(exclude.diagonals),
            list(exclude.keep),
            self._ids(exclude.same),
            self._ids(exclude.different),
            squares.taken,
            squares.far_apart,
            self.vector(squares.center),
            skip_below,
            (self.vector(self.permutation.rows), self.vector(self.permutation.place_of_column)),
        )

    def _put_in_order(self, points: Tensor) -> Tensor:
        order = torch.empty(len(points), dtype=torch.int64)
        _core.put_in_order(self._batch(points), order.data_ptr())
        return order

    def _batch(self, t: Tensor, rest: Tensor | None = None) -> tuple:
        split, columns = t.shape
        rows, second = (split, (0, 0, 0)) if rest is None else (split + len(rest), self._piece(rest))
        return self._piece(t), rows, columns, DTYPES[t.dtype], second, split

    def _piece(self, t: Tensor) -> tuple[int, ...]:
        if t.is_neg():
            t = t.detach().resolve_neg()
        self.keep.append(t)
        return (t.data_ptr(), *t.stride())

    def vector(self, t: Tensor | None) -> int:
        if t is None:
            return 0
        self.keep.append(t.detach().resolve_neg().contiguous())
        return self.keep[-1].data_ptr()

    def sides(self, row: _Side, col: _Side | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The addresses of two `Upstream` or `Weighted`, in the order of the points."""
        rows = tuple(self.vector(self.permutation.of_rows(t)) for t in row)
        return rows, (0, 0) if col is None else tuple(self.vector(self.permutation.of_columns(t)) for t in col)

    def _ids(self, pair: tuple[Tensor, Tensor] | None) -> tuple[int, int]:
        """As 32-bit numbers: they are compared N·M times. Negative ones become −1 among rows and −2 among columns."""
        if pair is None:
            return 0, 0
        rows, cols = pair
        if max(int(rows.amax()), int(cols.amax())) > torch.iinfo(torch.int32).max:
            both = torch.unique(torch.cat([rows, cols]).clamp_min(-1), return_inverse=True)[1]
            negative = torch.cat([rows, cols]) < 0
            rows, cols = both.masked_fill(negative, -1).split([len(rows), len(cols)])
        return self.vector(rows.clamp_min(-1).int()), self.vector(torch.where(cols < 0, -2, cols).int())


class _Squares(NamedTuple):
    """How squares are taken, u below which pairs are far apart, the center they are expanded around, and why."""

    taken: str
    far_apart: float
    center: Tensor | None
    why: str


def _squares(score: Score, x: tuple, y: tuple) -> _Squares:
    if score.kind == "dot" or score.D <= FEW_DIMENSIONS:
        return _Squares("differences", 0.0, None, f"differences: only {score.D} dimensions")
    center = _new(score, score.D)
    radius, *_ = _core.squared_radius(x, y, torch.get_num_threads(), center.data_ptr())
    score_radius = abs(float(score.scale.detach())) * radius
    if score_radius == 0 or not score_radius < torch.inf:
        return _Squares("differences", 0.0, None, f"differences: scale·radius² = {score_radius:.3g}")
    if squared_distance.exact_enough(score, score_radius, score.dtype):
        return _Squares("product", 0.0, center, f"matrix products: scale·radius² = {score_radius:.3g}")
    far_apart = squared_distance.far_apart(score, score_radius)
    if far_apart is None:
        return _Squares(
            "differences", 0.0, None, f"differences: φ has no bounded slope, scale·radius² = {score_radius:.3g}"
        )
    return _Squares(
        "product_if_far",
        far_apart,
        center,
        f"differences for tiles with close pairs: scale·radius² = {score_radius:.3g}",
    )


class _Out:
    """Gradients for the core to write. Where y is x but the pairs are not symmetric, the halves are made apart."""

    def __init__(self, problem: _Problem, needs: Needs):
        self.grads, self.permutation = Gradients.empty(problem.score, needs), problem.permutation
        apart = needs.x and problem.score.y is None and not problem.symmetric
        self.other_half = torch.empty_like(self.grads.x) if apart else self.grads.y

    def addresses(self) -> tuple[int, ...]:
        g = self.grads
        return tuple(_address(t) for t in (g.x, self.other_half, g.scale, g.row_bias, g.col_bias))

    def gradients(self) -> Gradients:
        if self.other_half is not self.grads.y:
            self.grads.x += self.other_half
        return self.permutation.gradients_back(self.grads)


def _new(score: Score, *shape: int) -> Tensor:
    return score.x.new_empty(shape, dtype=score.dtype)


def _address(t: Tensor) -> Any:
    return t.data_ptr() if t.numel() else 0
