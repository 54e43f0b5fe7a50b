"""The reductions as operators: an eager path through autograd.Function, a registered one for compile, export and fake tensors.

Four operators, each a backend's function behind a flat schema:

    reduce      scores → row (N,), col (M,)                      value only
    gradient    upstream of row and col → gradients              by recomputation
    scalar      constant weights → Σ w_i row_i + Σ v_j col_j     and its gradients, made in the forward pass
    top_k       scores → values, indices

`reduce` is differentiated by `gradient`; `scalar` brings its gradients along as outputs, and its backward only multiplies them
by the arriving number. Both paths share the two backward formulas below. Nothing here has a second derivative, and saying so
is part of the formulas: see `_no_second_derivative`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from .autocast import without_autocast
from .backends import BACKENDS
from .backends.contract import Upstream, Weighted, arriving
from .score import SCHEMA, Gradients, Needs, Score

NAMESPACE = "jessl_kernels"
FLAT = 15  # arguments of `SCHEMA`
PER_TENSOR = ("x", "y", "scale", "row_bias", "col_bias")  # the differentiable ones, which come first


def reduce(score: Score, op: str, cols: bool, backend: str, workspace: int) -> tuple[Tensor, Tensor]:
    """Row and column values, differentiable."""
    return _call(_Reduce.apply, "reduce", score, (op, cols, backend, workspace))


def scalar(
    score: Score, op: str, row: Weighted, col: Weighted | None, needs: Needs, backend: str, workspace: int
) -> Tensor:
    """Σ w_i join(row_i, anchor_i) + Σ v_j join(col_j, anchor_j), differentiable once, by the tensors that `needs` names."""
    col_weight, col_anchor = col or (None, None)
    rest = (op, row.weight, row.anchor, col_weight, col_anchor, needs.flatten(), backend, workspace)
    return _call(_Scalar.apply, "scalar", score, rest)[0]


def top_k(score: Score, k: int, backend: str, workspace: int) -> tuple[Tensor, Tensor]:
    """The k largest scores of each row and their columns; no gradient."""
    return _call(_top_k, "top_k", score, (k, backend, workspace))


def join(value: Tensor, anchor: Tensor | None) -> Tensor:
    """log(1 + e^{L − anchor}), which is L − anchor joined with the anchor's own term, and exact however small."""
    return value if anchor is None else torch.logaddexp(value - anchor, torch.zeros_like(value))


def _call(eager: Callable, name: str, score: Score, rest: tuple) -> Any:
    # Traced, fake and meta tensors need the registered operator; real ones go straight to the backend.
    plain = type(score.x) in (Tensor, torch.nn.Parameter) and not score.x.is_meta
    call = eager if plain and not torch.compiler.is_compiling() else getattr(torch.ops.jessl_kernels, name).default
    return call(*score.flatten(), *rest)


def _run(function: str, backend: str, score: Score, *args: Any) -> Any:
    # Autocast was decided when the score was made; inside a backend it would only lower the precision of its products.
    with without_autocast(score.x):
        return getattr(BACKENDS[backend], function)(score, *args)


# ---- The four operators on real tensors ----


def _reduce(*args: Any) -> tuple[Tensor, Tensor]:
    score, (op, cols, backend, workspace) = Score.unflatten(args[:FLAT]), args[FLAT:]
    return _run("reduce", backend, score, op, cols, workspace)


def _gradient(*args: Any) -> tuple[Tensor, ...]:
    score, (op, g, row_lse, h, col_lse, needs, backend, workspace) = Score.unflatten(args[:FLAT]), args[FLAT:]
    col = None if h is None else Upstream(h, col_lse)
    grads: Gradients = _run("gradient", backend, score, op, Upstream(g, row_lse), col, Needs(*needs), workspace)
    return grads.flatten()


def _scalar(*args: Any) -> tuple[Tensor, ...]:
    score, (op, *sides, needs, backend, workspace) = Score.unflatten(args[:FLAT]), args[FLAT:]
    row = Weighted(*sides[:2])
    col = None if sides[2] is None else Weighted(*sides[2:])
    if any(needs):
        row_value, col_value, grads = _run(
            "reduce_and_gradient", backend, score, op, row, col, Needs(*needs), workspace
        )
    else:
        row_value, col_value = _run("reduce", backend, score, op, col is not None, workspace)
        grads = Gradients.zeros(score, Needs(*needs))
    value = _weighted_sum(row_value, row)
    if col is not None:
        value = value + _weighted_sum(col_value, col)
    return value, *grads.flatten(), _anchor_gradient(op, row, row_value), _anchor_gradient(op, col, col_value)


def _top_k(*args: Any) -> tuple[Tensor, Tensor]:
    score, (k, backend, workspace) = Score.unflatten(args[:FLAT]), args[FLAT:]
    return _run("top_k", backend, score, k, workspace)


def _weighted_sum(value: Tensor, side: Weighted) -> Tensor:
    # A row of weight 0 counts for nothing, also where its value is infinite.
    return torch.where(side.weight == 0, 0.0, side.weight * join(value, side.anchor)).sum()


def _anchor_gradient(op: str, side: Weighted | None, value: Tensor) -> Tensor:
    if side is None or side.anchor is None:
        return value.new_empty(0)
    return -arriving(op, side, value).gradient


# ---- Derivatives, shared by both paths ----


def _no_second_derivative(ctx: Any, *upstream: Tensor) -> Any:
    # Without this, a gradient penalty or a Hessian would run and silently leave out every term through the scores.
    raise RuntimeError(
        "jessl_kernels has no second derivatives: a gradient penalty, a Hessian or a second backward through "
        "create_graph=True needs the matrix form of this loss"
    )


def _no_vmap(info: Any, in_dims: tuple, *args: Any) -> Any:
    raise NotImplementedError("jessl_kernels has no vmap rule: call the function once per batch")


def _no_jvp(ctx: Any, *tangents: Any) -> Any:
    raise NotImplementedError("jessl_kernels has no forward-mode derivative: use torch.func.grad or vjp")


def _reduce_setup(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:9], *output)
    ctx.words, (ctx.op, ctx.cols, ctx.backend, ctx.workspace) = inputs[9:FLAT], inputs[FLAT:]


def _reduce_backward(ctx: Any, g: Tensor, h: Tensor) -> tuple:
    *tensors, row, col = ctx.saved_tensors
    score = Score.unflatten((*tensors, *ctx.words))
    is_lse = ctx.op == "logsumexp"
    sides = (g, row if is_lse else None, h if ctx.cols else None, col if is_lse and ctx.cols else None)
    needs = Needs(*ctx.needs_input_grad[:5])
    made = _call(_Gradient.apply, "gradient", score, (ctx.op, *sides, needs.flatten(), ctx.backend, ctx.workspace))
    return (*_like_inputs(made, tensors, needs), *[None] * (FLAT - 5 + 4))


def _scalar_setup(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
    _, _, row_anchor, _, col_anchor, ctx.needs, _, _ = inputs[FLAT:]
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*inputs[:5], row_anchor, col_anchor, *output[1:])


def _scalar_backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple:
    saved = ctx.saved_tensors  # once: activation checkpointing lets nobody unpack them twice
    tied, gradients = saved[:7], saved[7:]
    *inputs, row_anchor, col_anchor = tied
    if torch.is_grad_enabled():  # somebody wants a second derivative, and must be refused
        *made, row, col = _Scaled.apply(upstream, *gradients, *(t for t in tied if t is not None))
    else:
        *made, row, col = _scaled(upstream, *gradients)
    grads = _like_inputs(made, inputs, Needs(*ctx.needs))
    row, col = (g if anchor is not None else None for g, anchor in ((row, row_anchor), (col, col_anchor)))
    return (*grads, *[None] * (FLAT - 5), None, None, row, None, col, None, None, None)


def _like_inputs(made: Sequence[Tensor], inputs: list[Tensor | None], needs: Needs) -> list[Tensor | None]:
    return [
        g.to(tensor.dtype) if needed and tensor is not None else None
        for g, tensor, needed in zip(made, inputs, needs.flatten(), strict=False)
    ]


class _Once(Function):
    """A function that is differentiated in reverse, once at most, and says so."""

    def __init_subclass__(cls) -> None:
        # Function.apply asks for the signature of forward at every call, which takes 20 µs unless it stands there.
        cls.forward.__signature__ = inspect.signature(cls.forward)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        pass

    backward = staticmethod(_no_second_derivative)
    vmap = staticmethod(_no_vmap)
    jvp = staticmethod(_no_jvp)


class _Reduce(_Once):
    forward = staticmethod(_reduce)
    setup_context = staticmethod(_reduce_setup)
    backward = staticmethod(_reduce_backward)


class _Gradient(_Once):
    forward = staticmethod(_gradient)


class _Scalar(_Once):
    forward = staticmethod(_scalar)
    setup_context = staticmethod(_scalar_setup)
    backward = staticmethod(_scalar_backward)


class _Scaled(_Once):
    """upstream · g for the gradients g made in the forward pass; the tensors they were made from come last, tied into the graph.

    Out of place, so that a second backward through a retained graph finds the same bits.
    """

    @staticmethod
    def forward(upstream: Tensor, *gradients_and_origins: Tensor) -> tuple[Tensor, ...]:
        return _scaled(upstream, *gradients_and_origins[:7])


def _scaled(upstream: Tensor, *gradients: Tensor) -> tuple[Tensor, ...]:
    return tuple(upstream * g if g.numel() else g for g in gradients)


# ---- Registration: the same functions under a schema, and their shapes ----


def _register(name: str, arguments: str, results: str, run: Callable, fake: Callable) -> Any:
    op = torch.library.custom_op(
        f"{NAMESPACE}::{name}",
        run,
        mutates_args=(),
        schema=f"({SCHEMA}, {arguments}, str backend, int workspace) -> {results}",
    )
    op.register_fake(fake)
    return op


def _fake_reduce(*args: Any) -> tuple[Tensor, Tensor]:
    score, cols = Score.unflatten(args[:FLAT]), args[FLAT + 1]
    return _new(score, score.N), _new(score, score.M if cols else 0)


def _fake_gradient(*args: Any) -> tuple[Tensor, ...]:
    return Gradients.zeros(Score.unflatten(args[:FLAT]), Needs(*args[FLAT + 5])).flatten()


def _fake_scalar(*args: Any) -> tuple[Tensor, ...]:
    score, (_, _, anchor, _, col_anchor, needs, _, _) = Score.unflatten(args[:FLAT]), args[FLAT:]
    anchors = (_new(score, 0 if a is None else a.shape[0]) for a in (anchor, col_anchor))
    return _new(score), *Gradients.zeros(score, Needs(*needs)).flatten(), *anchors


def _fake_top_k(*args: Any) -> tuple[Tensor, Tensor]:
    score, k = Score.unflatten(args[:FLAT]), args[FLAT]
    return _new(score, score.N, k), score.x.new_empty((score.N, k), dtype=torch.int64)


def _new(score: Score, *shape: int) -> Tensor:
    return score.x.new_empty(shape, dtype=score.dtype)


_register("reduce", "str op, bool cols", "(Tensor, Tensor)", _reduce, _fake_reduce).register_autograd(
    _reduce_backward, setup_context=_reduce_setup
)
_register(
    "gradient",
    "str op, Tensor row_gradient, Tensor? row_lse, Tensor? col_gradient, Tensor? col_lse, bool[] needs",
    "(Tensor, Tensor, Tensor, Tensor, Tensor)",
    _gradient,
    _fake_gradient,
)
_register(
    "scalar",
    "str op, Tensor row_weight, Tensor? anchor, Tensor? col_weight, Tensor? col_anchor, bool[] needs",
    "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _scalar,
    _fake_scalar,
).register_autograd(_scalar_backward, setup_context=_scalar_setup)
_register("top_k", "int k", "(Tensor, Tensor)", _top_k, _fake_top_k)
