"""A sweep of `dispatch`, or a whole loss of rows, on a problem, against the matrix form in fp64."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass, replace
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from jessl_kernels.backends import reference
from jessl_kernels.problem.row_loss import Loss, Positives, RowProblem
from jessl_kernels.problem.score import Score
from jessl_kernels.problem.types import Gradients, Needs, Sums, Terms, Weights
from jessl_kernels.triton import dispatch, launch
from jessl_kernels.triton.row_loss import row_loss

from .problems import PLENTY, Given, exact, problem_of, score_of, vectors

EVERY = slice(0, 1 << 20)  # columns, as many as there are
NO_COLUMN = slice(0, 0)
ALL = Needs(True, EVERY, True, True, True)
UNBIASED = Needs(True, EVERY, True, False, False)
HALVES = (torch.bfloat16, torch.float16)
LSE, PSI = Terms(), Terms("softplus")
# Of the largest element. In a row of up to 150 scores, sums and what is made of them round a few times; weights that meet a
# product in half precision are rounded to it once.
BARS = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}


def assert_near(what: str, ours: Tensor, truth: Tensor, bar: float) -> None:
    """Element by element, relative to the largest; infinities and NaN where the truth has them."""
    assert ours.shape == truth.shape, what
    a, t = ours.double(), truth.double()
    usual = t.isfinite()
    same = (a == t) | (a.isnan() & t.isnan())
    assert bool((a.isfinite() & usual | same).all()), f"{what}: other special values"
    if bool(usual.any()):
        size, error = float(t[usual].abs().amax()), float((a - t)[usual].abs().amax())
        assert error <= bar * size, f"{what}: {error / max(size, 1e-300):.3g} of the largest, allowed {bar:.3g}"


def device(programs: int) -> contextlib.AbstractContextManager[object]:
    return mock.patch.multiple(launch, processors=lambda device: programs, PROGRAMS_EACH=1)


def within(needs: Needs, problem: Score | RowProblem) -> Needs:
    """What of it there is."""
    columns = slice(*(min(n, problem.M) for n in (needs.y.start, needs.y.stop))) if problem.y is not None else NO_COLUMN
    if isinstance(problem, RowProblem) and not problem.y:
        columns = NO_COLUMN
    row, col = problem.row_bias is not None, problem.col_bias is not None
    return needs._replace(y=columns, row_bias=needs.row_bias and row, col_bias=needs.col_bias and col)


# Sweeps.


@functools.cache
def exact_sums(given: Given, terms: Terms) -> tuple[Sums, Sums]:
    row, col = reference.Matrices().sums(exact(given), terms, True, PLENTY)
    assert col is not None
    return row, col


def values(given: Given, terms: Terms, cols: bool) -> None:
    with device(given.programs):
        ours = dispatch.SWEEPS.sums(score_of(given), terms, cols, given.workspace)
    assert (ours[1] is not None) == cols
    bar = min(BARS[given.dtype], BARS[torch.float32])
    for name, a, t in zip(("rows", "columns"), ours, exact_sums(given, terms), strict=True):
        if a is not None:
            assert_near(name, a.values(), t.values(), bar)
            if a.linear is not None and a.count is not None and t.linear is not None and t.count is not None:
                assert_near(f"sums of scores of {name}", a.linear, t.linear, bar)
                assert_near(f"numbers of pairs of {name}", a.count, t.count, 0.0)


@functools.cache
def _weights(given: Given, terms: Terms, sides: str, spread: bool) -> tuple[Weights, Weights | None]:
    """What arrives at sums, in the dtype of scores. A row without pairs has something arriving all the same."""
    width = problem_of(given).dtype

    def side(sums: Sums, k: int) -> Weights:
        slopes = torch.stack([tilt * vectors(given, 5 + 2 * n)[k].double() for n, tilt in enumerate(terms.tilts)])
        of_spread = vectors(given, 4)[k].double() if spread else None
        made = Weights.of(sums, (1.0,), slopes, of_spread)
        return Weights(*(None if t is None else t.to(width) for t in made))  # pyright: ignore[reportArgumentType]

    row, col = exact_sums(given, terms._replace(linear=True) if spread else terms)
    return side(row, 0), side(col, 1) if sides == "both" else None


def _wide(side: Weights | None) -> Weights | None:
    return None if side is None else Weights(*(None if t is None else t.double() for t in side))  # pyright: ignore[reportArgumentType]


@functools.cache
def _exact_gradients(given: Given, terms: Terms, sides: str, spread: bool) -> Gradients:
    score = exact(given)
    needs = within(ALL, score)
    made = Gradients.zeros(score.x, score, needs)
    row, col = map(_wide, _weights(given, terms, sides, spread))
    assert row is not None
    reference.Matrices().grads(score, terms, row, col, needs, made, PLENTY)
    return made


def gradients(given: Given, terms: Terms, sides: str, needs: Needs = ALL, *, spread: bool = False) -> None:
    """For weights that are given, added to what is there."""
    score = score_of(given)
    asked = within(needs, score)
    like = score.x.new_empty(0, dtype=score.dtype)
    ours = Gradients.zeros(like, score, asked)
    row, col = (_copied(side) for side in _weights(given, terms, sides, spread))
    assert row is not None
    with device(given.programs):
        dispatch.SWEEPS.grads(score, terms, row, col, asked, ours, given.workspace)
    _compare(ours, _asked(_exact_gradients(given, terms, sides, spread), asked), given)


def _asked(every: Gradients, needs: Needs) -> Gradients:
    """Those of all gradients."""
    none = every.scale.new_empty(0)
    return Gradients(
        x=every.x if needs.x else none,
        y=every.y[needs.y] if needs.y.stop > needs.y.start else none,
        scale=every.scale if needs.scale else none,
        row_bias=every.row_bias if needs.row_bias else none,
        col_bias=every.col_bias if needs.col_bias else none,
        score=every.score if needs.given else none,
        col_score=every.col_score if needs.given else none,
        also=every.also if needs.given else none,
    )


def _copied(side: Weights | None) -> Weights | None:
    return None if side is None else Weights(*(None if t is None else t.clone() for t in side))  # pyright: ignore[reportArgumentType]


# Whole losses.


@dataclass(frozen=True)
class Form:
    """A loss of rows: what becomes of the scores of a problem.

    positives  "none", "partners" (of a shift), "index", "labels" (so many), "twins" (rows that are there twice), "given" (scores)
    rest       so many keys, the last, stand in a tensor of their own
    weighted   each row's loss has a weight of its own, and each column's; a few have 0
    also       there is a further log-sum-exp of each row
    """

    join: str
    terms: Terms = LSE
    of_positives: Terms = LSE
    positives: str = "partners"
    shift: int = 0
    labels: int = 0
    normalize: bool = True
    cols: bool = False
    reduction: str = "sum"
    rest: int = 0
    weighted: bool = False
    also: bool = False


def whole(given: Given, form: Form, needs: Needs = UNBIASED, *, rows_each: int = launch.ROWS) -> None:
    problem = _row_problem(given, form, score_of(given), rest=form.rest, normalize=form.normalize)
    needs = within(needs, problem)._replace(given=needs.any)
    if needs.given:  # as whoever asks for gradients of what is given does
        for t in (problem.positives.score, problem.positives.col_score, problem.also):
            if t is not None:
                t.requires_grad_()
    with device(given.programs), mock.patch.object(launch, "ROWS", rows_each):
        value, made = row_loss(problem, _loss(given, form, problem.dtype), needs, given.workspace)
    truth, exact_gradients = _exact_whole(given, form)
    # Rounded to half precision after a division in fp32, not in fp64, some element now and then is another.
    assert_near("value", value, truth, 1e-4 if form.normalize and given.dtype in HALVES else BARS[torch.float32])
    _compare(made, _asked(exact_gradients, needs), given)


def twice(rows: Tensor) -> Tensor:
    return rows[torch.arange(len(rows)) // 2]


def labels_of(rows: int, labels: int) -> Tensor:
    """Of which some are those of one row alone, and some say that there is none."""
    ids = torch.randint(0, labels, (rows,), generator=torch.Generator().manual_seed(labels))
    ids = torch.where(torch.arange(rows) % 40 == 7, labels + torch.arange(rows), ids)
    return torch.where(torch.arange(rows) % 50 == 31, -1, ids)


def _positives(given: Given, form: Form, N: int, M: int, dtype: torch.dtype) -> Positives:
    if form.positives == "partners":
        return Positives(shift=form.shift)
    if form.positives == "index":
        index = torch.randint(-1, M, (N,), generator=torch.Generator().manual_seed(N))
        return Positives(index=torch.where(torch.arange(N) % 9 == 4, -1, index))
    if form.positives == "given":
        row, col = (v.to(dtype) for v in vectors(given, 6))
        return Positives(score=row, col_score=col if form.cols else None)
    if form.positives == "none":
        return Positives()
    if form.positives == "twins":
        row = torch.arange(N) // 2
        return Positives(row_ids=row, col_ids=row)
    row = labels_of(N, form.labels)
    return Positives(row_ids=row, col_ids=row if given.symmetric else labels_of(M, form.labels))


def _row_problem(given: Given, form: Form, score: Score, *, rest: int, normalize: bool) -> RowProblem:
    x, y = (score.x,), () if score.y is None else (score.y,)
    if form.positives == "twins":
        x = (twice(score.x),)
    if rest:
        keys = y or x
        pieces = keys[0][:-rest], keys[0][-rest:]
        x, y = (x, pieces) if y else (pieces, ())
    also = vectors(given, 8)[0].to(score.dtype) if form.also else None
    return RowProblem(
        x, y, score.scale, score.row_bias, score.col_bias, score.exclude, score.kind, score.phi,
        positives=_positives(given, form, score.N, score.M, score.dtype), negatives=form.terms, of_positives=form.of_positives,
        normalize=normalize, cols=form.cols, also=also,
    )  # fmt: skip


def _loss(given: Given, form: Form, dtype: torch.dtype) -> Loss:
    if not form.weighted:
        return Loss(form.join, form.reduction, 0.125)
    row, col = (torch.where(torch.arange(len(v)) % 11 == 2, 0.0, v).to(dtype) for v in vectors(given, 7))
    return Loss(form.join, form.reduction, 0.125, row, col if form.cols else None)


@functools.cache
def _exact_whole(given: Given, form: Form) -> tuple[Tensor, Gradients]:
    score = exact(given)
    if form.positives == "twins":
        score = replace(score, x=twice(score.x))
    leaves = [z.clone().requires_grad_() for z in ([score.x] if score.y is None else [score.x, score.y])]
    units = [_unit(z, given.dtype) if form.normalize else z for z in leaves]
    x, y = units[0].detach(), None if score.y is None else units[-1].detach()
    problem = replace(_row_problem(given, form, replace(score, x=x, y=y), rest=0, normalize=False), x=(x,))
    needs, loss = within(ALL, problem)._replace(given=True), _loss(given, form, torch.float64)
    with _disable_current_modes():  # the truth need not be computed as on a GPU
        value, made = reference.row_loss(problem, loss, needs, PLENTY)
    value, made = value.to("cuda"), replace(made, **{name: t.to("cuda") for name, t in vars(made).items()})
    arriving = [made.x] if score.y is None else [made.x, made.y]
    if form.normalize:
        arriving = list(torch.autograd.grad(units, leaves, arriving))
    made.x, made.y = arriving[0], arriving[1] if len(arriving) > 1 else made.y
    return value, made


def _unit(z: Tensor, dtype: torch.dtype) -> Tensor:
    """Rounded as scores see it, with the gradient of what is not."""
    unit = torch.nn.functional.normalize(z, dim=1)
    return unit + (unit.detach().to(dtype).double() - unit.detach())


@functools.cache
def _exact_best(given: Given) -> tuple[Tensor, Tensor]:
    return reference.top_k(exact(given), 4, PLENTY)


def best(given: Given) -> None:
    with device(given.programs):
        values, places = dispatch.top_k(score_of(given), 4, given.workspace)
    expected, there = _exact_best(given)
    assert_near("values", values, expected, min(BARS[given.dtype], BARS[torch.float32]))
    found = expected > -torch.inf
    assert torch.equal(places[found], there[found]), "places"


def _compare(ours: Gradients, truth: Gradients, given: Given) -> None:
    bar = BARS[given.dtype]
    for name in ("x", "y", "row_bias", "col_bias", "score", "col_score", "also"):
        a, t = getattr(ours, name), getattr(truth, name)
        if a.numel() or t.numel():
            rounded = name in ("x", "y")  # others are sums of weights that meet no product
            assert_near(f"gradient of {name}", a, t, bar if rounded else min(bar, BARS[torch.float32]))
    if truth.scale.numel():
        assert_near("gradient of scale", ours.scale, truth.scale, min(bar, 1e-4))  # terms of both signs, unrounded
