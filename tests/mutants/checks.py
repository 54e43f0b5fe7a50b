"""What a mutant must pass to survive: reductions, and losses, on small odd shapes, each against the matrix form in fp64.

Every check is one call of the driver, or of `losses.paired`. Between them they take every branch of every kernel, in a program
of several tiles and in several programs; `test_mutants.py` sees to it that the kernels themselves pass.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from unittest import mock

import torch
from torch import Tensor

from jessl_kernels import phi
from jessl_kernels.backends import reference
from jessl_kernels.backends.contract import Pairing, Upstream, Weighted
from jessl_kernels.exclude import Exclude
from jessl_kernels.score import Gradients, Needs, Score
from jessl_kernels.triton import driver, launch, losses

ALL = Needs(True, True, True, True, True)
FEW = Needs(True, False, False, False, False)
UNBIASED = Needs(True, True, True, False, False)
UNSCALED = Needs(True, True, False, False, False)
NO_COLUMNS = Needs(True, True, True, True, False)
NONE = Needs(False, False, False, False, False)
PLENTY = 64 << 20
SCANT, SCANT_SUMS = 40_000, 1000  # a few strips of the shapes below; one tile of rows, and one range, at a time
SCANT_STRIPS = 15_000  # strips of a few rows, for values too
# Of the largest element. In a row of up to 150 scores, sums and what is made of them round a few times; weights that meet a
# product in half precision are rounded to it once.
BARS = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}


@dataclass(frozen=True)
class Given:
    """The problem of a check, and on what it runs.

    whole       numbers: scores, distances that lie on a bound
    near        rows of y that lie as close to a row of x as rounding does not reach
    clustered   all points in two places far from each other, those of a tile in one
    spread      by how much biases grow from row to row, and from column to column, in nats
    special     biases that are infinite or NaN; a NaN among the columns' points; rows of x that are 0, or nearly
    programs    that a launch should have: 1 makes programs of several tiles, many of one each
    """

    kind: str = "dot"
    dtype: torch.dtype = torch.float64
    shape: tuple[int, int, int] = (21, 140, 5)
    symmetric: bool = False
    exclude: str = "nothing"
    of: phi.Phi = phi.IDENTITY
    scale: float = 0.3
    whole: bool = False
    near: int = 0
    clustered: bool = False
    spread: tuple[float, float] = (0.0, 0.0)
    special: str = ""
    biased: bool = True
    workspace: int = PLENTY
    programs: int = 1


@functools.cache
def problem_of(given: Given) -> Score:
    N, M, D = given.shape
    generator = torch.Generator().manual_seed(N + M + D)

    def normal(*shape: int, dtype: torch.dtype = given.dtype) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    x, y = normal(N, D), normal(M, D)
    if given.whole:
        x, y = (0.6 * x).round(), (0.6 * y).round()
        y[M // 2 :] = -y[: M - M // 2]  # their mean is 0
        x[0] = 2.0 * (
            torch.arange(D) < 16
        )  # a squared radius of 64, so that 16 is the squared distance of close pairs, to the last bit
    if given.clustered:
        x, y = (torch.where(torch.arange(len(z))[:, None] < n, 3.0, -3.0) + 1e-6 * z for z, n in ((x, 16), (y, 128)))
    if given.near:
        pick = torch.arange(given.near)
        y[(pick * 29) % M] = x[(pick * 11) % N] + 1e-3 * normal(given.near, D)
    wide = torch.float64 if given.dtype == torch.float64 else torch.float32
    row, col = normal(N, dtype=wide), normal(M, dtype=wide)
    row, col = row + given.spread[0] * (torch.arange(N) % 5), col + given.spread[1] * (torch.arange(M) % 7)
    if given.special == "empty":
        row[3], col[7], row[5] = -torch.inf, -torch.inf, torch.nan
    if given.special == "infinite":
        row[3] = torch.inf
    if given.special == "point":
        y[5] = torch.nan
    if given.special == "nothing":
        x[2], x[3] = 0.0, 1e-14 * x[3]
    bias = (row, col) if given.biased else (None, None)
    exclude = EXCLUSIONS[given.exclude](N, N if given.symmetric else M, generator)
    scale = torch.tensor(given.scale, dtype=torch.float64)
    return Score(x, None if given.symmetric else y, scale, *bias, exclude, given.kind, given.of)


def _ids(n: int, generator: torch.Generator, classes: int = 6) -> Tensor:
    return torch.randint(-1, classes, (n,), generator=generator)


EXCLUSIONS: dict[str, Callable[[int, int, torch.Generator], Exclude]] = {
    "nothing": lambda N, M, g: Exclude(),
    "partners": lambda N, M, g: Exclude(diagonals=(0,)),
    "further partners": lambda N, M, g: Exclude(diagonals=(3, 3 - M)),
    "all but few": lambda N, M, g: Exclude(different=(_ids(N, g, 40), _ids(M, g, 40)), diagonals=(0,)),
    "diagonals": lambda N, M, g: Exclude(diagonals=(0, N // 2, -(N // 2))),
    "same": lambda N, M, g: Exclude(same=(_ids(N, g), _ids(M, g)), diagonals=(3,), keep=(0, M - N - 2)),
    "different": lambda N, M, g: Exclude(different=(_ids(N, g), _ids(M, g)), diagonals=(1, 66), keep=(-1, 70)),
    # Rows without a pair, and columns.
    "most": lambda N, M, g: Exclude(different=(_ids(N, g, 3), 1 + _ids(M, g, 4)), diagonals=(0, 1), keep=(130,)),
    # Tiles without one.
    "blocks": lambda N, M, g: Exclude(different=tuple((torch.arange(n) >= k).long() for n, k in ((N, 16), (M, 128)))),
}


def _with_tensors(score: Score, change: Callable[[Tensor], Tensor]) -> Score:
    changed = [None if v is None else change(v) for v in (score.x, score.y, score.row_bias, score.col_bias)]
    return replace(score, x=changed[0], y=changed[1], row_bias=changed[2], col_bias=changed[3])


def score_of(given: Given) -> Score:
    """For one call: a mutant may write where it should not."""
    return _with_tensors(problem_of(given), torch.clone)


@functools.cache
def exact(given: Given) -> Score:
    return _with_tensors(problem_of(given), torch.Tensor.double)


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


@functools.cache
def vectors(given: Given, seed: int = 5) -> tuple[Tensor, Tensor]:
    """A number for each row and for each column, which the dtype of scores holds exactly."""
    score, generator = problem_of(given), torch.Generator().manual_seed(seed)
    row, col = (torch.randn(n, generator=generator, dtype=torch.float32) for n in (score.N, score.M))
    return row.to(score.dtype), col.to(score.dtype)


def _compare_sums(given: Given, op: str, ours: tuple[Tensor, Tensor]) -> None:
    for name, a, t in zip(("rows", "columns"), ours, exact_sums(given, op), strict=True):
        if a.numel():
            assert_near(name, a, t, min(BARS[given.dtype], BARS[torch.float32]))


def values(given: Given, op: str, cols: bool) -> None:
    with device(given.programs):
        ours = driver.reduce(score_of(given), op, cols, given.workspace)
    assert bool(ours[1].numel()) == cols
    _compare_sums(given, op, ours)


@functools.cache
def _upstream(given: Given, op: str, sides: str, dtype: torch.dtype) -> tuple[Upstream | None, Upstream | None]:
    """A row without pairs arrives with a gradient all the same."""
    width = problem_of(given).dtype
    lse = [v.to(width).to(dtype) if op == LSE else None for v in exact_sums(given, op)]
    row, col = (Upstream(g.to(dtype), v) for g, v in zip(vectors(given), lse, strict=True))
    return row, col if sides == "both" else None


@functools.cache
def _exact_gradients(given: Given, op: str, sides: str, needs: Needs) -> Gradients:
    return reference.gradient(exact(given), op, *_upstream(given, op, sides, torch.float64), needs, PLENTY)


def gradients(given: Given, op: str, sides: str, needs: Needs = ALL) -> None:
    """By recomputation."""
    score = score_of(given)
    with device(given.programs):
        ours = driver.gradient(score, op, *_upstream(given, op, sides, score.dtype), needs, given.workspace)
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
        *sums, ours = driver.reduce_and_gradient(score, op, *sent, needs, given.workspace)
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
    assert_near("value", value, truth, 1e-4 if normalize and given.dtype in HALVES else BARS[FP32])
    kept = [
        t if needed else t.new_empty(0) for t, needed in zip(exact_gradients.flatten(), needs.flatten(), strict=True)
    ]
    _compare(made, Gradients(*kept), given)


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
        Upstream(g, z.detach() if op == LSE else None) for g, z in list(zip(arriving * 2, sums * 2, strict=True))[:2]
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
        values, places = driver.top_k(score_of(given), 4, given.workspace)
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


BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
HALVES = (BF16, FP16)
FUSED = Given(dtype=BF16, shape=(133, 140, 5), workspace=SCANT_SUMS)
ROWS = Given(dtype=BF16, shape=(133, 140, 24), biased=False, exclude="partners", scale=5.0)  # of losses
VIEWS = replace(ROWS, shape=(270, 270, 24), symmetric=True, exclude="diagonals")
SYMMETRIC = Given(dtype=BF16, shape=(300, 300, 5), symmetric=True, biased=False, exclude="diagonals")
BLOCK = Given(dtype=BF16, shape=(150, 300, 70), workspace=SCANT, scale=0.03)  # more than a tile each way, and a chunk
WIDE = replace(BLOCK, shape=(150, 300, 260))
APART = Given("sqdist", shape=(21, 75, 3))  # by differences
EXPANDED = Given("sqdist", shape=(21, 140, 18), near=12)  # in fp64 only φ = laplace minds close pairs
STRIP = Given()
CLAMP = phi.clamp(-1.0, 0.9)
FAR = phi.clamp(-3.0, -0.4)  # of distances
LSE, PSI = "logsumexp", "softplus"

CHECKS: dict[str, Callable[[], None]] = {
    # those that catch most
    "strip columns": lambda: values(replace(STRIP, exclude="most"), LSE, True),
    "strip gradients": lambda: gradients(replace(STRIP, exclude="same", of=CLAMP), LSE, "both"),
    "fused attention": lambda: at_once(replace(FUSED, exclude="different"), LSE, "rows", anchored=True),
    "near gradients": lambda: gradients(replace(APART, of=phi.LAPLACE, exclude="same"), LSE, "both"),
    "expanded gradients": lambda: gradients(replace(EXPANDED, exclude="same", of=phi.LAPLACE), LSE, "both"),
    "strip softplus": lambda: values(replace(STRIP, exclude="different", scale=3.0), PSI, True),
    # strips of products
    "strip top-k": lambda: best(replace(STRIP, exclude="same", of=CLAMP, workspace=SCANT)),
    "strip rows": lambda: values(replace(STRIP, exclude="diagonals", programs=9, workspace=SCANT), LSE, False),
    "strip columns, far apart": lambda: values(replace(STRIP, spread=(30.0, 30.0), programs=9), LSE, True),
    "strip rows, far apart": lambda: values(replace(STRIP, spread=(400.0, 400.0)), LSE, False),
    "strip rows, far below": lambda: values(replace(STRIP, spread=(-400.0, 0.0)), LSE, True),
    "strip columns, far below": lambda: values(replace(STRIP, spread=(0.0, -400.0)), LSE, True),
    "strip columns, far below and empty": lambda: values(
        replace(STRIP, spread=(0.0, -400.0), exclude="most"), LSE, True
    ),
    "strip gradients, columns far below": lambda: gradients(replace(STRIP, spread=(0.0, -400.0)), LSE, "both"),
    "strip columns, empty tiles": lambda: values(replace(STRIP, exclude="blocks"), LSE, True),
    "strip infinite rows": lambda: values(replace(STRIP, special="infinite"), LSE, False),
    "strip infinite rows and columns": lambda: values(replace(STRIP, special="infinite"), LSE, True),
    "strip gradients, empty": lambda: gradients(replace(STRIP, exclude="most"), LSE, "both"),
    "strip infinite rows, not in all columns": lambda: values(
        replace(STRIP, special="infinite", exclude="diagonals", spread=(400.0, 0.0)), LSE, True
    ),
    "strip special values": lambda: values(replace(STRIP, special="empty"), LSE, True),
    "strip gradients, far apart": lambda: gradients(replace(STRIP, spread=(30.0, 30.0)), LSE, "both"),
    "strip gradients of rows": lambda: gradients(replace(STRIP, exclude="most", programs=9), LSE, "rows"),
    "strip gradients of softplus": lambda: gradients(replace(STRIP, of=CLAMP), PSI, "both"),
    "strip at once, softplus": lambda: at_once(replace(STRIP, workspace=SCANT, special="empty"), PSI, "rows"),
    "strip at once, anchored": lambda: at_once(
        replace(STRIP, workspace=SCANT, exclude="same"), LSE, "rows", anchored=True
    ),
    "strip sums, many ranges": lambda: values(replace(STRIP, shape=(3, 2300, 2), programs=20), LSE, True),
    "strip columns, in strips and ranges": lambda: values(
        replace(STRIP, programs=9, workspace=SCANT_STRIPS), LSE, True
    ),
    "strip gradients, in strips and ranges": lambda: gradients(
        replace(STRIP, programs=9, workspace=SCANT_STRIPS), LSE, "both"
    ),
    # strips of distances
    "expanded gradients, in strips and ranges": lambda: gradients(
        replace(EXPANDED, of=phi.LAPLACE, near=21, programs=9, workspace=SCANT_STRIPS), LSE, "both"
    ),
    "expanded rows": lambda: values(replace(EXPANDED, of=phi.LAPLACE), LSE, True),
    "expanded gradients, fp32": lambda: gradients(replace(EXPANDED, dtype=FP32, programs=9), LSE, "both"),
    "expanded gradients, clamp": lambda: gradients(
        replace(EXPANDED, of=phi.clamp(-3.0, -1e-5), scale=0.1), PSI, "rows"
    ),
    "expanded at once": lambda: at_once(
        replace(EXPANDED, symmetric=True, exclude="diagonals", workspace=SCANT, of=phi.LAPLACE), LSE, "rows"
    ),
    "expanded, no padding": lambda: values(replace(EXPANDED, shape=(21, 144, 18)), LSE, True),
    "expanded, clusters": lambda: values(
        replace(EXPANDED, near=0, clustered=True, exclude="blocks", of=phi.LAPLACE), LSE, False
    ),
    "expanded gradients, a NaN": lambda: gradients(replace(EXPANDED, special="point", of=FAR, scale=0.1), PSI, "both"),
    "expanded gradients, at the limit": lambda: gradients(
        replace(EXPANDED, of=phi.LAPLACE, whole=True, near=0), LSE, "both"
    ),
    "strip gradients, at the bounds": lambda: gradients(
        replace(STRIP, of=phi.clamp(-1.0, 1.0), whole=True, scale=0.5), LSE, "both"
    ),
    # fused products
    "fused columns": lambda: values(replace(FUSED, exclude="same"), LSE, True),
    "fused, symmetric": lambda: values(SYMMETRIC, LSE, True),
    "fused, symmetric, in ranges": lambda: values(replace(SYMMETRIC, programs=9), LSE, False),
    "fused columns, far apart": lambda: values(replace(FUSED, spread=(12.0, 12.0), programs=9), LSE, True),
    "fused attention, fp16": lambda: at_once(replace(FUSED, dtype=FP16, programs=9, exclude="most"), LSE, "rows"),
    "fused gradients": lambda: gradients(replace(FUSED, of=CLAMP), LSE, "both"),
    "fused gradients, far apart": lambda: gradients(replace(FUSED, spread=(12.0, 12.0), programs=9), LSE, "both"),
    "fused gradients, rows far apart": lambda: gradients(replace(FUSED, spread=(30.0, 0.0)), LSE, "both"),
    "fused gradients, columns far apart": lambda: gradients(replace(FUSED, spread=(0.0, 30.0)), LSE, "both"),
    "fused columns, empty": lambda: values(replace(FUSED, exclude="most"), LSE, True),
    "fused columns, rows far below": lambda: values(replace(FUSED, spread=(-400.0, 0.0)), LSE, True),
    "fused columns, columns far below": lambda: values(replace(FUSED, spread=(0.0, -400.0)), LSE, True),
    "fused softplus of columns": lambda: values(replace(FUSED, exclude="same", programs=9), PSI, True),
    "fused softplus, far below": lambda: values(replace(FUSED, of=phi.clamp(-21.0, -20.0), biased=False), PSI, False),
    "fused gradients, very far apart": lambda: gradients(replace(FUSED, spread=(100.0, 0.0)), LSE, "both"),
    "fused infinite rows, not in all columns": lambda: values(
        replace(FUSED, special="infinite", exclude="diagonals", spread=(40.0, 0.0)), LSE, True
    ),
    "fused infinite rows and columns": lambda: values(replace(FUSED, special="infinite"), LSE, True),
    "fused gradients, fp16": lambda: gradients(replace(FUSED, dtype=FP16), LSE, "rows"),
    "fused, as wide as padded": lambda: at_once(replace(FUSED, shape=(70, 67, 16)), LSE, "both"),
    # blocks of U, and sums of more dimensions than stay on the chip
    "wide columns": lambda: values(replace(WIDE, exclude="same"), LSE, True),
    "wide, symmetric": lambda: values(replace(SYMMETRIC, shape=(300, 300, 260)), LSE, True),
    "symmetric softplus": lambda: values(SYMMETRIC, PSI, True),
    "block gradients": lambda: gradients(replace(WIDE, exclude="different", of=CLAMP), LSE, "both"),
    "block of many tiles": lambda: gradients(replace(WIDE, shape=(300, 150, 130), workspace=PLENTY), PSI, "both"),
    "blocks of many tiles": lambda: gradients(
        replace(WIDE, shape=(300, 400, 260), workspace=140_000, of=CLAMP), LSE, "both"
    ),
    "block gradients of rows": lambda: gradients(replace(WIDE, exclude="most"), LSE, "rows"),
    "block gradients, symmetric": lambda: gradients(
        replace(SYMMETRIC, shape=(300, 300, 260), workspace=SCANT), LSE, "both", UNBIASED
    ),
    "block at once, softplus": lambda: at_once(replace(BLOCK, special="empty"), PSI, "rows"),
    "block gradients of softplus, fp16": lambda: gradients(replace(BLOCK, dtype=FP16, exclude="same"), PSI, "both"),
    # distances by differences
    "near columns": lambda: values(replace(APART, dtype=FP32, programs=9), LSE, True),
    "near columns, half precision": lambda: values(replace(APART, dtype=BF16), LSE, True),
    "near softplus": lambda: values(replace(APART, of=FAR, special="empty"), PSI, True),
    "near softplus of columns": lambda: values(replace(APART, of=FAR), PSI, True),
    "near gradients of softplus, rows": lambda: gradients(replace(APART, of=FAR), PSI, "rows"),
    "near gradients, of NaN": lambda: gradients(replace(APART, of=FAR, special="point"), PSI, "rows"),
    "near gradients of rows": lambda: gradients(replace(APART, exclude="most", workspace=SCANT_SUMS), LSE, "rows"),
    "near gradients of softplus": lambda: gradients(replace(APART, of=FAR, programs=9), PSI, "both"),
    # whole losses
    "loss of rows": lambda: whole(ROWS, "anchor"),
    "loss of rows, no norms": lambda: whole(replace(ROWS, scale=0.7), "anchor", normalize=False),
    "loss of rows in ranges, rest": lambda: whole(replace(ROWS, programs=9), "minus", rest=30),
    "loss of rows, many parts": lambda: whole(replace(ROWS, shape=(5, 2300, 5), programs=40), "anchor", rest=2295),
    "loss of rows, empty": lambda: whole(replace(ROWS, exclude="all but few", programs=9), "anchor"),
    "loss of rows, biased": lambda: whole(replace(ROWS, biased=True), "anchor"),
    "loss of rows alone, biases learnt": lambda: whole(replace(ROWS, biased=True), "none", needs=ALL),
    "loss of sums alone, biases learnt": lambda: whole(replace(ROWS, biased=True), "none", op=PSI, needs=ALL),
    "loss of one row": lambda: whole(replace(ROWS, shape=(1, 1, 5)), "anchor"),
    "loss of nothing": lambda: whole(replace(ROWS, special="nothing"), "anchor"),
    "loss of further partners": lambda: whole(replace(ROWS, exclude="further partners"), "anchor", shift=3),
    "loss of rows, alone": lambda: whole(replace(ROWS, exclude="nothing"), "none", normalize=False),
    "loss of rows, value": lambda: whole(ROWS, "anchor", needs=NONE),
    "loss of rows, few rows a program": lambda: whole(replace(ROWS, shape=(261, 262, 24)), "anchor", rows_each=1),
    "loss of both sides": lambda: whole(replace(ROWS, shape=(133, 133, 24)), "anchor", cols=True),
    "loss of both sides, no norms": lambda: whole(
        replace(ROWS, shape=(133, 133, 24), scale=0.7, programs=9), "anchor", cols=True, normalize=False
    ),
    "loss of both sides, far apart": lambda: whole(
        replace(ROWS, shape=(133, 133, 24), biased=True, spread=(8.0, 0.0)), "anchor", cols=True
    ),
    "loss of both sides, empty": lambda: whole(
        replace(ROWS, shape=(133, 133, 24), exclude="all but few"), "anchor", cols=True
    ),
    "loss of two views": lambda: whole(VIEWS, "anchor", shift=135, rest=135),
    "loss of two views in one": lambda: whole(VIEWS, "minus", shift=135),
    "loss of two views, no norms": lambda: whole(
        replace(VIEWS, scale=0.7), "anchor", shift=135, rest=135, normalize=False
    ),
    "loss of sums": lambda: whole(
        replace(ROWS, biased=True, spread=(-2.0, 0.0)), "softplus", op=PSI, needs=NO_COLUMNS, rest=30
    ),
    "loss of sums, alone": lambda: whole(replace(ROWS, programs=9), "none", op=PSI),
    "loss of fp16": lambda: whole(replace(ROWS, dtype=FP16), "anchor"),
    "loss of fp64": lambda: whole(replace(ROWS, dtype=torch.float64), "anchor"),
    "loss of fp64, sums": lambda: whole(
        replace(ROWS, dtype=torch.float64, biased=True), "softplus", op=PSI, needs=NO_COLUMNS
    ),
    "loss of wide rows": lambda: whole(replace(ROWS, shape=(9, 12, 1030)), "anchor", needs=UNSCALED),
}
