"""The one comparer: is a result as good as the matrix form in the same precision, both judged by fp64?

The formula:

    truth    the oracle on the given inputs, in fp64
    matrix   the oracle on the same inputs in fp32, rounding where training in the inputs' dtype does (oracles.precision)
    values     max |ours − truth|           ≤ 2 · max |matrix − truth| + 4 ulp · max |truth|
    gradients  ‖ours_i − truth_i‖ / ‖truth_i‖ ≤ 3 · the matrix form's + 2 ulp      row by row, in the median and in the maximum

An ulp is that of the output: fp32 for values of bf16 inputs, bf16 for their gradients. Gradients of vectors and scalars
(biases, temperature) are judged like values, by the gradients' factor. Maximum is compared with maximum, so that neither
luck in one element matters nor a ruined row hides in a mean. A scalar result has no other element for comparison, so the matrix
form is run several times with random last bits, and its worst result counts.

For fp64 inputs there is no better truth. There the runs with random last bits are in fp64 too. Their distance from the oracle
shows how far two good answers may be apart: twice the error of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tests.oracles.precision import matrix_form

VALUE_FACTOR, GRADIENT_FACTOR = 2.0, 3.0
VALUE_ULPS, GRADIENT_ULPS = 4.0, 2.0
DRAWS = 6
# A row whose gradient is smaller than this share of the median row's is measured against that share.
SMALL_ROW = 1e-3


@dataclass(frozen=True)
class Result:
    """The outputs of one evaluation, and the gradients of those inputs that have one."""

    values: list[Tensor]
    gradients: dict[str, Tensor]


@dataclass
class Verdict:
    """The result of a comparison: the error of each quantity as a share of its allowance, and the failures in words.

    share  the factor of the allowance: 1, or 2 in fp64, where the truth has an error of the same size
    """

    case: str
    share: float = 1.0
    ratios: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def settle(self) -> Verdict:
        if self.failures:
            raise AssertionError("\n".join([self.case, *self.failures]))
        return self


def judge(
    case: str,
    ours: Callable[..., Any],
    oracle: Callable[..., Any],
    inputs: Mapping[str, Any],
    *,
    seed: int,
    gradients: bool = True,
    constants: Sequence[str] = (),
    floors: Mapping[str, float] | None = None,
) -> Verdict:
    """Call both functions with the inputs by name, and assert that ours is within the yardstick.

    inputs     float tensors as ours receives them, already rounded; anything else is passed on unchanged. The tensors with
               the most dimensions are embeddings, whose dtype is that of the training
    seed       of the upstream gradient of results that are no scalars, and of the random last bits
    gradients  False compares values alone
    constants  names of float tensors that get no gradient
    floors     by name, a row norm below which errors are absolute: for gradients whose terms cancel to 0, the terms' size
    """
    dtype = max((v for v in inputs.values() if is_float(v)), key=Tensor.dim).dtype
    wanted = [name for name, value in inputs.items() if gradients and is_float(value) and name not in constants]
    result = evaluate(ours, inputs, wanted, seed)
    truth, matrix = expected(oracle, inputs, wanted, seed, dtype)
    verdict = Verdict(f"{case}, seed {seed}, {dtype}", 2.0 if dtype == torch.float64 else 1.0)
    for n, (a, t) in enumerate(zip(result.values, truth.values, strict=True)):
        check_values(verdict, f"value {n}", a, [m.values[n] for m in matrix], t)
    for name in wanted:
        a, t, m = result.gradients[name], truth.gradients[name], [run.gradients[name] for run in matrix]
        check = check_rows if a.dim() >= 2 else partial(check_values, factor=GRADIENT_FACTOR)
        check(verdict, f"gradient of {name}", a, m, t, floor=(floors or {}).get(name, 0.0))
    return verdict.settle()


def expected(
    oracle: Callable[..., Any], inputs: Mapping[str, Any], wanted: Sequence[str], seed: int, dtype: torch.dtype
) -> tuple[Result, list[Result]]:
    """The truth, and what the matrix form makes of it each time that it is run."""
    truth = evaluate(in_dtype(oracle, torch.float64), inputs, wanted, seed)
    in_fp64 = dtype == torch.float64
    matrix = []
    for draw in range(DRAWS):
        with matrix_form(dtype, seed=seed + draw if draw or in_fp64 else None):
            matrix.append(evaluate(in_dtype(oracle, dtype if in_fp64 else torch.float32), inputs, wanted, seed))
    return truth, matrix


def is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype.is_floating_point


def in_dtype(function: Callable[..., Any], dtype: torch.dtype) -> Callable[..., Any]:
    """The function, given its float tensors in this dtype; the casts are differentiated too."""
    return lambda **inputs: function(**{name: v.to(dtype) if is_float(v) else v for name, v in inputs.items()})


def evaluate(function: Callable[..., Any], inputs: Mapping[str, Any], wanted: Sequence[str], seed: int) -> Result:
    """Outputs, and gradients of Σ upstream · output; upstream is 1 for a scalar and random numbers for anything else."""
    leaves = {name: v.detach().requires_grad_(name in wanted) if is_float(v) else v for name, v in inputs.items()}
    outputs = function(**leaves)
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    generator = torch.Generator().manual_seed(seed)
    upstream = [torch.randn(o.shape, generator=generator) if o.dim() else torch.ones(()) for o in outputs]
    if wanted:
        pairs = [(o, u.to(o.dtype)) for o, u in zip(outputs, upstream, strict=True) if o.requires_grad]
        torch.autograd.backward([o for o, _ in pairs], [u for _, u in pairs])
    found = {name: leaves[name].grad for name in wanted}
    none = [torch.zeros_like(leaves[name]) if g is None else g for name, g in found.items()]
    return Result([o.detach() for o in outputs], dict(zip(wanted, none, strict=True)))


def check_values(
    verdict: Verdict,
    what: str,
    ours: Tensor,
    matrix: Sequence[Tensor],
    truth: Tensor,
    *,
    factor: float = VALUE_FACTOR,
    ulps: float = VALUE_ULPS,
    floor: float = 0.0,
) -> None:
    """Element by element, maximum against maximum."""
    if not same_shape(verdict, what, ours, truth):
        return
    a, t, runs = ours.flatten().double(), truth.flatten().double(), [m.flatten().double() for m in matrix]
    usual = same_special_values(verdict, what, a, t, ours.dtype)
    if not bool(usual.any()):
        return
    error = (a - t).abs().masked_fill(~usual, 0.0)
    matrix_error = verdict.share * max(largest((m - t).abs()[usual & m.isfinite()]) for m in runs)
    few = verdict.share * ulps * torch.finfo(ours.dtype).eps * max(largest(t[usual].abs()), floor)
    worst = int(error.argmax())
    numbers = [f"{float(v[worst]):.9g}" for v in (a, runs[0], t)]
    record(verdict, what, f"element {worst}", largest(error), matrix_error, factor * matrix_error + few, numbers)


def check_rows(
    verdict: Verdict,
    what: str,
    ours: Tensor,
    matrix: Sequence[Tensor],
    truth: Tensor,
    *,
    factor: float = GRADIENT_FACTOR,
    ulps: float = GRADIENT_ULPS,
    floor: float = 0.0,
) -> None:
    """Row by row (all dimensions but the last), in the maximum and in the median."""
    if not same_shape(verdict, what, ours, truth):
        return
    a, t, runs = (
        ours.flatten(0, -2).double(),
        truth.flatten(0, -2).double(),
        [m.flatten(0, -2).double() for m in matrix],
    )
    usual = same_special_values(verdict, what, a, t, ours.dtype).all(dim=1)
    if not bool(usual.any()):
        return
    norms = torch.linalg.vector_norm(t, dim=1)
    nonzero = norms[usual & (norms > 0)]
    small = SMALL_ROW * float(nonzero.median()) if len(nonzero) else 0.0
    scale = norms.clamp_min(max(small, floor, torch.finfo(torch.float64).tiny))

    def errors(g: Tensor) -> Tensor:
        return torch.linalg.vector_norm(g - t, dim=1) / scale

    error = errors(a).masked_fill(~usual, 0.0)
    matrix_errors = [e[usual & e.isfinite()] for e in map(errors, runs)]
    few = verdict.share * ulps * torch.finfo(ours.dtype).eps
    worst = int(error.argmax())
    numbers = [head(g[worst]) for g in (a, runs[0], t)]
    most = verdict.share * max(map(largest, matrix_errors))
    record(verdict, what, f"row {worst}", largest(error), most, factor * most + few, numbers)
    middle = verdict.share * max(float(e.median()) if len(e) else 0.0 for e in matrix_errors)
    record(verdict, f"{what}, median", "all rows", float(error[usual].median()), middle, factor * middle + few, [])


def largest(t: Tensor) -> float:
    return float(t.amax()) if len(t) else 0.0


def same_shape(verdict: Verdict, what: str, ours: Tensor, truth: Tensor) -> bool:
    if ours.shape != truth.shape:
        verdict.failures.append(f"  {what}: shape {tuple(ours.shape)}, truth {tuple(truth.shape)}")
    return ours.shape == truth.shape


def same_special_values(verdict: Verdict, what: str, ours: Tensor, truth: Tensor, dtype: torch.dtype) -> Tensor:
    """The places where both are finite. Elsewhere NaN must meet NaN, and an infinity the same infinity, the truth rounded to
    `dtype`."""
    expected = truth.to(dtype).double()
    usual = expected.isfinite() & ours.isfinite()
    wrong = ~usual & ~((ours == expected) | (ours.isnan() & expected.isnan()))
    if bool(wrong.any()):
        place = tuple(int(i) for i in wrong.nonzero()[0])
        verdict.failures.append(
            f"  {what} at {place}: ours {float(ours[place])}, truth {float(truth[place])} ({int(wrong.sum())} such)"
        )
    return usual


def record(
    verdict: Verdict, what: str, where: str, error: float, matrix_error: float, allowed: float, numbers: Sequence[str]
) -> None:
    """Keep the ratio; where it is above 1, keep the words too."""
    ratio = 0.0 if error == 0.0 else error / allowed if allowed > 0 else float("inf")
    verdict.ratios[what] = ratio
    if not ratio <= 1:
        lines = [
            f"  {what}, {where}: error {error:.3g}, matrix form's {matrix_error:.3g}, allowed {allowed:.3g}, ratio {ratio:.3g}"
        ]
        lines += [f"    {who:6} {number}" for who, number in zip(("ours", "matrix", "truth"), numbers, strict=False)]
        verdict.failures.append("\n".join(lines))


def head(row: Tensor, count: int = 4) -> str:
    return "[" + ", ".join(f"{float(v):.6g}" for v in row[:count]) + (", …]" if len(row) > count else "]")
