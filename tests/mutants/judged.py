"""A call of `dispatch`, of `losses.paired` or of `sup_con.labelled`, on a problem, against the matrix form in fp64."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import replace
from unittest import mock

import torch
from torch import Tensor

from jessl_kernels.backends import reference
from jessl_kernels.problem.row_loss import Labelling, Pairing
from jessl_kernels.problem.score import Score
from jessl_kernels.problem.types import Gradients, Needs, Upstream, Weighted
from jessl_kernels.triton import dispatch, launch, losses, sup_con

from .problems import PLENTY, Given, exact, problem_of, score_of, vectors

ALL = Needs(True, True, True, True, True)
UNBIASED = Needs(True, True, True, False, False)
ROWS_AND_SCALE = Needs(True, False, True, False, False)
HALVES = (torch.bfloat16, torch.float16)
# Of the largest element. In a row of up to 150 scores, sums and what is made of them round a few times; weights that meet a
# product in half precision are rounded to it once.
BARS = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}


@functools.cache
def exact_sums(given: Given, op: str) -> tuple[Tensor, Tensor]:
    return reference.reduce(exact(given), op, True, PLENTY)


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


def _compare_sums(given: Given, op: str, ours: tuple[Tensor, Tensor]) -> None:
    for name, a, t in zip(("rows", "columns"), ours, exact_sums(given, op), strict=True):
        if a.numel():
            assert_near(name, a, t, min(BARS[given.dtype], BARS[torch.float32]))


def values(given: Given, op: str, cols: bool) -> None:
    with device(given.programs):
        ours = dispatch.reduce(score_of(given), op, cols, given.workspace)
    assert bool(ours[1].numel()) == cols
    _compare_sums(given, op, ours)


@functools.cache
def _upstream(given: Given, op: str, sides: str, dtype: torch.dtype) -> tuple[Upstream | None, Upstream | None]:
    """A row without pairs arrives with a gradient all the same."""
    width = problem_of(given).dtype
    lse = [v.to(width).to(dtype) if op == "logsumexp" else None for v in exact_sums(given, op)]
    row, col = (Upstream(g.to(dtype), v) for g, v in zip(vectors(given), lse, strict=True))
    return row, col if sides == "both" else None


@functools.cache
def _exact_gradients(given: Given, op: str, sides: str, needs: Needs) -> Gradients:
    return reference.gradient(exact(given), op, *_upstream(given, op, sides, torch.float64), needs, PLENTY)


def gradients(given: Given, op: str, sides: str, needs: Needs = ALL) -> None:
    """By recomputation."""
    score = score_of(given)
    with device(given.programs):
        ours = dispatch.gradient(score, op, *_upstream(given, op, sides, score.dtype), needs, given.workspace)
    _compare(ours, _exact_gradients(given, op, sides, needs), given)


@functools.cache
def _weighted(given: Given, sides: str, anchored: bool, dtype: torch.dtype) -> tuple[Weighted | None, Weighted | None]:
    anchors = vectors(given, 6) if anchored else (None, None)
    row, col = (
        Weighted(g.to(dtype), None if a is None else a.to(dtype)) for g, a in zip(vectors(given), anchors, strict=True)
    )
    return row, col if sides == "both" else None


@functools.cache
def _exact_at_once(given: Given, op: str, sides: str, needs: Needs, anchored: bool) -> Gradients:
    sent = _weighted(given, sides, anchored, torch.float64)
    return reference.reduce_and_gradient(exact(given), op, *sent, needs, PLENTY)[2]


def at_once(given: Given, op: str, sides: str, needs: Needs = ALL, anchored: bool = False) -> None:
    """Values and gradients of constant weights."""
    score = score_of(given)
    sent = _weighted(given, sides, anchored, score.dtype)
    with device(given.programs):
        *sums, ours = dispatch.reduce_and_gradient(score, op, *sent, needs, given.workspace)
    _compare_sums(given, op, sums)
    _compare(ours, _exact_at_once(given, op, sides, needs, anchored), given)


def whole(
    given: Given, join: str, *, op: str = "logsumexp", shift: int = 0, normalize: bool = True, cols: bool = False, rest: int = 0,
    needs: Needs = UNBIASED, rows_each: int = losses.ROWS,
) -> None:  # fmt: skip
    """A loss of rows and their partners, of which the last `rest` keys stand in a tensor of their own."""
    score = _biased_as(join, score_of(given))
    keys = score.keys
    if rest:
        first, last = keys[: len(keys) - rest], keys[len(keys) - rest :]
        score = replace(score, rest=last, **({"x": first} if score.y is None else {"y": first}))
    pairing = Pairing(0.125, join, shift, normalize, cols)
    with device(given.programs), mock.patch.object(losses, "ROWS", rows_each):
        value, made = losses.paired(score, op, pairing, needs, given.workspace)
    truth, exact_gradients = _exact_whole(given, op, pairing)
    # Rounded to half precision after a division in fp32, not in fp64, some element now and then is another.
    assert_near("value", value, truth, 1e-4 if normalize and given.dtype in HALVES else BARS[torch.float32])
    kept = [
        t if needed else t.new_empty(0) for t, needed in zip(exact_gradients.flatten(), needs.flatten(), strict=True)
    ]
    _compare(made, Gradients(*kept), given)


def by_labels(
    given: Given,
    form: str,
    labels: int,
    *,
    needs: Needs = ROWS_AND_SCALE,
    per_counted: bool = True,
    rows_each: int = losses.ROWS,
) -> None:
    """SupCon of rows with so many labels, some of which one row alone has; with 0 of rows that are there twice."""
    score, ids = score_of(given), labels_of(given.shape[0], labels)
    score = replace(score, x=twice(score.x)) if labels == 0 else score
    labelling = Labelling(ids, form, 0.125, per_counted, True)
    with device(given.programs), mock.patch.object(losses, "ROWS", rows_each):
        value, made = sup_con.labelled(score, labelling, needs, given.workspace)
    truth, exact_gradients = _exact_by_labels(given, form, labels, per_counted)
    assert_near("value", value, truth, 1e-4)
    kept = [t if needed else t.new_empty(0) for t, needed in zip(exact_gradients, needs.flatten(), strict=True)]
    _compare(made, Gradients(*kept), given)


def twice(rows: Tensor) -> Tensor:
    return rows[torch.arange(len(rows)) // 2]


def labels_of(rows: int, labels: int) -> Tensor:
    if labels == 0:
        return torch.arange(rows) // 2
    ids = torch.randint(0, labels, (rows,), generator=torch.Generator().manual_seed(labels))
    return torch.where(torch.arange(rows) % 40 == 7, labels + torch.arange(rows), ids)


@functools.cache
def _exact_by_labels(given: Given, form: str, labels: int, per_counted: bool) -> tuple[Tensor, list[Tensor]]:
    score, ids = exact(given), labels_of(given.shape[0], labels)
    z, scale = (
        (twice(score.x) if labels == 0 else score.x.clone()).requires_grad_(),
        score.scale.clone().requires_grad_(),
    )
    unit = _unit(z, given.dtype)
    s = (scale * unit @ unit.T).fill_diagonal_(-torch.inf)
    positive = (ids[:, None] == ids[None, :]).fill_diagonal_(False)
    count = positive.sum(dim=1)
    counted = count > 0
    s, positive, count = s[counted], positive[counted], count[counted]
    if form == "out":
        own = torch.where(positive, s, 0.0).sum(dim=1) / count
    else:
        own = torch.where(positive, s, -torch.inf).logsumexp(dim=1) - count.log()
    loss = 0.125 * (s.logsumexp(dim=1) - own).sum() / (counted.sum().clamp_min(1) if per_counted else 1)
    of_z, of_scale = torch.autograd.grad(loss, [z, scale])
    none = z.new_empty(0)
    return loss.detach(), [of_z, none, of_scale, none, none]


def _biased_as(join: str, score: Score) -> Score:
    """Scores of partners know no biases of columns."""
    return score if join == "none" else replace(score, col_bias=None)


@functools.cache
def _exact_whole(given: Given, op: str, pairing: Pairing) -> tuple[Tensor, Gradients]:
    score = _biased_as(pairing.join, exact(given))
    given_rows = [score.x] if score.y is None else [score.x, score.y]
    leaves = [z.clone().requires_grad_() for z in given_rows]
    units = [_unit(z, given.dtype) if pairing.normalize else z for z in leaves]
    x, y = units[0].detach(), units[-1].detach()
    score = replace(score, x=x, y=None if score.y is None else y)
    partner = (torch.arange(score.N) + pairing.shift) % score.M
    raw = (x * y[partner]).sum(dim=1)
    t = score.scale * raw if score.row_bias is None else score.scale * raw + score.row_bias
    sums = [z.requires_grad_() for z in reference.reduce(score, op, pairing.cols, PLENTY) if z.numel()]
    t.requires_grad_()
    loss = pairing.weight * torch.stack([_joined(pairing.join, z, t) for z in sums]).sum()
    *arriving, of_t = torch.autograd.grad(loss, [*sums, t], allow_unused=True)
    of_t = torch.zeros_like(t) if of_t is None else of_t
    row, col = (
        Upstream(g, z.detach() if op == "logsumexp" else None)
        for g, z in list(zip(arriving * 2, sums * 2, strict=True))[:2]
    )
    made = reference.gradient(score, op, row, col if pairing.cols else None, ALL, PLENTY)
    to_x, to_y = score.scale * of_t[:, None] * y[partner], score.scale * of_t[:, None] * x
    made.x += to_x
    (made.x if score.y is None else made.y).index_add_(0, partner, to_y)
    made.scale += (of_t * raw).sum()
    if score.row_bias is not None:
        made.row_bias += of_t
    made.x, *of_y = torch.autograd.grad(units, leaves, [made.x] if score.y is None else [made.x, made.y])
    made.y = of_y[0] if of_y else made.y
    return loss.detach(), made


def _unit(z: Tensor, dtype: torch.dtype) -> Tensor:
    """Rounded as scores see it, with the gradient of what is not."""
    unit = torch.nn.functional.normalize(z, dim=1)
    return unit + (unit.detach().to(dtype).double() - unit.detach())


def _joined(join: str, sums: Tensor, t: Tensor) -> Tensor:
    """The loss of each row: log(1 + e^z) in fp64, and z itself beyond 40."""
    softplus = functools.partial(torch.nn.functional.softplus, threshold=40)
    of = {"anchor": lambda: softplus(sums - t), "minus": lambda: sums - t, "softplus": lambda: sums + softplus(-t)}
    return of.get(join, lambda: sums)()


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
    for name in ("x", "y", "row_bias", "col_bias"):
        a, t = getattr(ours, name), getattr(truth, name)
        if a.numel() or t.numel():
            rounded = name in ("x", "y")  # biases' are sums of weights that meet no product
            assert_near(f"gradient of {name}", a, t, bar if rounded else min(bar, BARS[torch.float32]))
    if truth.scale.numel():
        assert_near("gradient of scale", ours.scale, truth.scale, min(bar, 1e-4))  # terms of both signs, unrounded
