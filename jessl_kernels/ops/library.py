"""The operators under a schema, for compile, export, fake and meta tensors: the same functions, and their results' shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..problem.flat import ARGUMENTS, SCHEMA, Tensors, Words, from_schema, to_schema, together
from ..problem.row_loss import RowProblem
from ..problem.types import Attended, Gradients, RowSums, SideSums, Sums, Terms
from . import autograd, eager
from .eager import LossWords, Who, from_gradients, from_sums, needs_of

NAMESPACE = "jessl_kernels"
GRADIENTS = ", ".join(["Tensor"] * 8)


def _apart(arguments: Sequence[Any]) -> tuple[Words, Tensors, Sequence[Any]]:
    """The problem's words and tensors, and the other arguments."""
    return *from_schema(*arguments[:ARGUMENTS]), arguments[ARGUMENTS:]


def _register(name: str, arguments: str, results: str, run: Callable, fake: Callable) -> Any:
    op = torch.library.custom_op(
        f"{NAMESPACE}::{name}",
        run,
        mutates_args=(),
        schema=f"({SCHEMA}, {arguments}str backend, int workspace) -> {results}",
    )
    op.register_fake(fake)
    return op


def _distinct(outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Outputs as distinct tensors: those not requested may be one empty tensor, which outputs of an operator must not be."""
    return tuple(output if output.numel() else output.new_empty(0) for output in outputs)


def _row_sums(*args: Any) -> list[Tensor]:
    words, tensors, who = _apart(args)
    # Copies: with single positives some outputs are one tensor, or an input, which outputs of an operator must not be.
    return [part.clone() for part in eager.row_sums(words, Who(*who), tensors)]


def empty_sums(problem: RowProblem) -> RowSums:
    """Sums of the right shapes, unmade."""

    def sums(n: int, terms: Terms, linear: bool) -> Sums:
        new = problem.x[0].new_empty
        total = new((len(terms.tilts), n), dtype=problem.dtype)
        one = new((n,), dtype=problem.dtype) if linear else None
        reference = torch.empty_like(total) if terms.op == "logsumexp" else None
        return Sums(reference, total, one, None if one is None else torch.empty_like(one))

    def side(n: int, score: Tensor | None) -> SideSums:
        there = problem.positives.there and (problem.positives.score is None or score is not None)
        negatives = sums(n, problem.negatives, problem.negatives.linear)
        return SideSums(negatives, sums(n, problem.of_positives, True) if there else None)

    row = side(problem.N, problem.positives.score)
    return RowSums(row, side(problem.M, problem.positives.col_score) if problem.cols else None)


def _fake_row_sums(*args: Any) -> list[Tensor]:
    words, tensors, _ = _apart(args)
    problem = together(words, tensors)
    return list(from_sums(empty_sums(problem), problem))


def _fake_gradients(problem: RowProblem, flags: Sequence[bool]) -> tuple[Tensor, ...]:
    like = problem.x[0].new_empty(0, dtype=problem.dtype)
    made = Gradients.empty(like, problem, needs_of(problem, flags))
    if problem.positives.score is not None:
        made.score = like.new_empty(problem.N)
    if problem.positives.col_score is not None:
        made.col_score = like.new_empty(problem.M)
    if problem.also is not None:
        made.also = like.new_empty(problem.N)
    return from_gradients(made, problem)


def _row_grads(*args: Any) -> tuple[Tensor, ...]:
    words, tensors, (sums, slopes, flags, *who) = _apart(args)
    return _distinct(eager.row_grads(words, Who(*who), flags, tensors, sums, slopes))


def _fake_row_grads(*args: Any) -> tuple[Tensor, ...]:
    words, tensors, (_, _, flags, *_) = _apart(args)
    return _fake_gradients(together(words, tensors), flags)


def _row_loss(*args: Any) -> tuple[Tensor, ...]:
    words, tensors, (join, reduction, factor, weights, col_weights, flags, *who) = _apart(args)
    named = LossWords(join, reduction, factor)
    return _distinct(eager.row_loss(words, named, Who(*who), flags, tensors, (weights, col_weights)))


def _total(*args: Any) -> tuple[Tensor, ...]:
    words, tensors, (flags, *who) = _apart(args)
    return _distinct(eager.total(words, Who(*who), flags, tensors))


def _made_setup(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
    words, tensors, (*_, flags, _, _) = _apart(inputs)  # the last two are a backend and a workspace
    autograd.made_setup(ctx, words, tensors, flags, output)


def _fake_made(*args: Any) -> tuple[Tensor, ...]:
    """A value and its gradients."""
    words, tensors, (*_, flags, _, _) = _apart(args)
    problem = together(words, tensors)
    return problem.x[0].new_empty((), dtype=problem.dtype), *_fake_gradients(problem, flags)


def _made_backward(ctx: Any, *upstream: Tensor) -> tuple:
    return _to_arguments(ctx, autograd.made_backward(ctx, *upstream))


def _to_arguments(ctx: Any, made: list[Tensor | None], values: list[Tensor] | Tensor | None = None) -> tuple:
    """One gradient for each argument of a schema, a list for a list; `values`: gradients of the arguments after the problem."""
    none: list[Any] = [[None] * len(need) if isinstance(need, (list, tuple)) else None for need in ctx.needs_input_grad]
    asked = [gradient for gradient, is_there in zip(made, ctx.there, strict=False) if is_there]
    none[0][: len(asked)] = asked
    if values is not None:
        none[ARGUMENTS] = values
    return tuple(none)


def _top_k(*args: Any) -> tuple[Tensor, Tensor]:
    words, tensors, (k, *who) = _apart(args)
    return eager.top_k(words, k, Who(*who), tensors)


def _fake_top_k(*args: Any) -> tuple[Tensor, Tensor]:
    words, tensors, (k, *_) = _apart(args)
    problem = together(words, tensors)
    new = problem.x[0].new_empty
    return new((problem.N, k), dtype=problem.dtype), new((problem.N, k), dtype=torch.int64)


def _attach(*args: Any) -> list[Tensor]:
    values, *_ = _apart(args)[2]
    return [value.clone() for value in values]


def _attach_setup(ctx: Any, inputs: tuple, output: list[Tensor]) -> None:
    words, tensors, (values, sums, *who) = _apart(inputs)
    autograd.attach_setup(ctx, words, Who(*who), values, sums, tensors)


def _flags(ctx: Any) -> list[bool]:
    """Whether each tensor of the problem that may have a gradient needs one; absent ones are not among the schema's tensors."""
    needed = iter(ctx.needs_input_grad[0])
    return [is_there and bool(next(needed)) for is_there in ctx.there[: ctx.words.differentiable]]


def _attach_backward(ctx: Any, upstream: list[Tensor]) -> tuple:
    made = autograd.attach_backward(ctx, upstream, _flags(ctx), row_grads)
    return _to_arguments(ctx, made, values=list(upstream))


def _attend(*args: Any) -> tuple[Tensor, ...]:
    words, tensors, (values, *who) = _apart(args)
    return eager.attend(words, Who(*who), tensors, values)


def _fake_attend(*args: Any) -> tuple[Tensor, ...]:
    words, tensors, (values, *_) = _apart(args)
    problem = together(words, tensors)
    new, dtype = problem.x[0].new_empty, problem.dtype
    return (
        new((problem.N, values.shape[1]), dtype=dtype),
        new((problem.N,), dtype=dtype),
        new((problem.N,), dtype=dtype),
    )


def _attend_setup(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
    words, tensors, (values, *who) = _apart(inputs)
    autograd.attend_setup(ctx, words, Who(*who), values, tensors, output)
    ctx.mark_non_differentiable(*output[1:])


def _attend_backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple:
    flags = [*_flags(ctx), bool(ctx.needs_input_grad[ARGUMENTS])]
    made, value = autograd.attend_backward(ctx, upstream, flags, attend_grads)
    return _to_arguments(ctx, made, values=value)


def attend_grads(words: Words, who: Who, flags: tuple[bool, ...], *tensors: Tensor) -> tuple[Tensor, ...]:
    arguments = *tensors[:5], list(flags), *who
    return torch.ops.jessl_kernels.attend_grads(*to_schema(words, tensors[5:]), *arguments)


def _attend_grads(*args: Any) -> tuple[Tensor, ...]:
    words, tensors, (*given, flags, backend, workspace) = _apart(args)
    who, of = Who(backend, workspace), Attended(*given[2:])
    return _distinct(eager.attend_grads(words, who, flags, tensors, given[:2], of))


def _fake_attend_grads(*args: Any) -> tuple[Tensor, ...]:
    words, tensors, (_, _, _, values, _, flags, *_) = _apart(args)
    problem = together(words, tensors)
    of_values = values.new_empty(values.shape if flags[-1] else (0,), dtype=problem.dtype)
    return *_fake_gradients(problem, flags[:-1]), of_values


def row_grads(
    words: Words, who: Who, flags: tuple[bool, ...], slopes: Sequence[Tensor], sums: Sequence[Tensor], tensors: Tensors
) -> tuple[Tensor, ...]:
    arguments = list(sums), list(slopes), list(flags), *who
    return torch.ops.jessl_kernels.row_grads(*to_schema(words, tensors), *arguments)


_register("row_sums", "", "Tensor[]", _row_sums, _fake_row_sums)
_register("row_grads", "Tensor[] sums, Tensor[] slopes, bool[] needs, ", f"({GRADIENTS})", _row_grads, _fake_row_grads)
_register(
    "row_loss",
    "str join, str reduction, float factor, Tensor? weights, Tensor? col_weights, bool[] needs, ",
    f"(Tensor, {GRADIENTS})",
    _row_loss,
    _fake_made,
).register_autograd(_made_backward, setup_context=_made_setup)
_register("total", "bool[] needs, ", f"(Tensor, {GRADIENTS})", _total, _fake_made).register_autograd(
    _made_backward, setup_context=_made_setup
)
_register("top_k", "int k, ", "(Tensor, Tensor)", _top_k, _fake_top_k)
_register("attend", "Tensor values, ", "(Tensor, Tensor, Tensor)", _attend, _fake_attend).register_autograd(
    _attend_backward, setup_context=_attend_setup
)
_register(
    "attend_grads",
    "Tensor reference, Tensor total, Tensor upstream, Tensor values, Tensor inner, bool[] needs, ",
    f"({GRADIENTS}, Tensor)",
    _attend_grads,
    _fake_attend_grads,
)
_register("attach", "Tensor[] values, Tensor[] sums, ", "Tensor[]", _attach, _attach).register_autograd(
    _attach_backward, setup_context=_attach_setup
)
