"""Derivatives of the operators: one formula each, shared by the eager functions here and the registered operators.

Nothing here has a second derivative, and saying so is part of the formulas: see `_no_second_derivative`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor  # pyright: ignore[reportMissingModuleSource, reportMissingImports]
from torch.autograd import Function, forward_ad

from ..problem.score import FLAT, TENSORS, Score
from ..problem.types import Needs
from . import eager


def call(apply: Callable, name: str, score: Score, rest: tuple) -> Any:
    """Traced, fake and meta tensors need the registered operator; real ones go straight to the backend."""
    function = apply if is_real(score.x, score.y, score.rest) else getattr(torch.ops.jessl_kernels, name).default
    return function(*score.flatten(), *rest)


def is_real(*tensors: Tensor | None) -> bool:
    return not torch.compiler.is_compiling() and all(
        t is None or (type(t) in (Tensor, torch.nn.Parameter) and not t.is_meta) for t in tensors
    )


def is_plain(score: Score) -> bool:
    """Real, and outside of torch.func, whose transforms want functions of another form."""
    return is_real(score.x, score.y, score.rest) and not torch._C._are_functorch_transforms_active()


def _no_second_derivative(ctx: Any, *upstream: Tensor) -> Any:
    # Without this, a gradient penalty or a Hessian would run and silently leave out every term through the scores.
    raise RuntimeError(
        "jessl_kernels has no second derivatives: a gradient penalty, a Hessian or a second backward through "
        "create_graph=True needs the matrix form of this loss"
    )


def no_vmap(info: Any, in_dims: tuple, *args: Any) -> Any:
    raise NotImplementedError("jessl_kernels has no vmap rule: call the function once per batch")


def no_jvp(ctx: Any, *tangents: Any) -> Any:
    raise NotImplementedError("jessl_kernels has no forward-mode derivative: use torch.func.grad or vjp")


def reduce_setup(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:TENSORS], *output)
    ctx.words, (ctx.op, ctx.cols, ctx.backend, ctx.workspace) = inputs[TENSORS:FLAT], inputs[FLAT:]


def reduce_backward(ctx: Any, g: Tensor, h: Tensor) -> tuple:
    *tensors, row, col = ctx.saved_tensors
    score = Score.unflatten((*tensors, *ctx.words))
    is_lse = ctx.op == "logsumexp"
    sides = (g, row if is_lse else None, h if ctx.cols else None, col if is_lse and ctx.cols else None)
    needs = Needs(*ctx.needs_input_grad[:5])
    made = call(Gradient.apply, "gradient", score, (ctx.op, *sides, needs.flatten(), ctx.backend, ctx.workspace))
    return (*_like_inputs(made, tensors, needs), *[None] * (FLAT - 5 + 4))


def scalar_setup(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
    _, _, row_anchor, _, col_anchor, ctx.needs, _, _ = inputs[FLAT:]
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*inputs[:5], row_anchor, col_anchor, *output[1:])


def scalar_backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple:
    saved = ctx.saved_tensors  # once: activation checkpointing lets nobody unpack them twice
    tied, gradients = saved[:7], saved[7:]
    *inputs, row_anchor, col_anchor = tied
    *made, row, col = _times(upstream, gradients, tied)
    grads = _like_inputs(made, inputs, Needs(*ctx.needs))
    row, col = (g if anchor is not None else None for g, anchor in ((row, row_anchor), (col, col_anchor)))
    return (*grads, *[None] * (FLAT - 5), None, None, row, None, col, None, None, None)


def made_setup(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
    ctx.needs = inputs[-3]
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*inputs[:5], *output[1:])


def made_backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple:
    saved = ctx.saved_tensors
    inputs, made = saved[:5], _times(upstream, saved[5:], saved[:5])
    return (*_like_inputs(made, inputs, Needs(*ctx.needs)), *[None] * (len(ctx.needs_input_grad) - 5))


def _times(
    upstream: Tensor, gradients: Sequence[Tensor], tied: Sequence[Tensor | None], *, rounded: bool = False
) -> tuple[Tensor, ...]:
    """upstream · g; tied to the tensors that the g came from where somebody wants a second derivative, and must be refused.

    rounded  results are in the dtypes of `tied`, by one launch each
    """
    if torch.is_grad_enabled():
        return _Scaled.apply(upstream, len(gradients), *gradients, *(t for t in tied if t is not None))
    if rounded and not _is_transformed(upstream):
        return tuple(
            torch.mul(upstream, g, out=torch.empty_like(g, dtype=t.dtype)) if t is not None and g.numel() else g
            for g, t in zip(gradients, tied, strict=True)
        )
    return _scaled(upstream, *gradients)


def _like_inputs(made: Sequence[Tensor], inputs: Sequence[Tensor | None], needs: Needs) -> list[Tensor | None]:
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
    vmap = staticmethod(no_vmap)
    jvp = staticmethod(no_jvp)


def _is_one(upstream: Tensor) -> bool:
    """Whether gradients need no product and may be handed out as they are: `loss.backward()` of a batch whose pages, new from
    the system, would take longer to touch than its loss. Not asked of a GPU, which would have to be waited for."""
    plain = type(upstream) is Tensor and not torch.is_grad_enabled() and not torch.compiler.is_compiling()
    return plain and upstream.device.type == "cpu" and not _is_transformed(upstream) and upstream.item() == 1.0


def _is_transformed(upstream: Tensor) -> bool:
    """Whether it is one of torch.func's tensors, or of `is_grads_batched`, of which torch takes no item and no `out`."""
    return torch._C._are_functorch_transforms_active() or is_legacy_batchedtensor(upstream)


class WithGradients(_Once):
    """A value that brings the gradients of some tensors along. `make` returns it and them, empty where nobody asked.

    What `Scalar` and `Paired` are under torch.func, in a third of their time: with gradients that need not be outputs, and
    a forward that need not be told apart from its setup.
    """

    @staticmethod
    def forward(ctx: Any, make: Callable[[], tuple[Tensor, ...]], *tensors: Tensor | None) -> Tensor:
        value, *gradients = make()
        ctx.save_for_backward(*tensors, *gradients)
        return value

    setup_context = Function.setup_context  # none: forward has the context

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple:
        saved = ctx.saved_tensors  # once: activation checkpointing lets nobody unpack them twice
        tensors, gradients = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        made = gradients if _is_one(upstream) else _times(upstream, gradients, tensors, rounded=True)
        return None, *(
            g.to(tensor.dtype) if tensor is not None and needed and g.numel() else None
            for g, tensor, needed in zip(made, tensors, ctx.needs_input_grad[1:], strict=True)
        )


def with_gradients(make: Callable[[], tuple[Tensor, ...]], score: Score, *anchors: Tensor | None) -> Tensor:
    tensors = (score.x, score.y, score.scale, score.row_bias, score.col_bias, *anchors)
    if score.rest is not None:
        tensors = (*tensors, score.rest)
    # A tangent of forward mode needs no gradient, and must be refused as well.
    differentiated = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    if differentiated or forward_ad._current_level >= 0:
        return WithGradients.apply(make, *tensors)
    return make()[0]


class Reduce(_Once):
    forward = staticmethod(eager.reduce)
    setup_context = staticmethod(reduce_setup)
    backward = staticmethod(reduce_backward)


class Gradient(_Once):
    forward = staticmethod(eager.gradient)


class Scalar(_Once):
    forward = staticmethod(eager.scalar)
    setup_context = staticmethod(scalar_setup)
    backward = staticmethod(scalar_backward)


class TopK(_Once):
    """Whose places have no gradient; from the values at them `pairwise_topk` makes others, which have."""

    forward = staticmethod(eager.top_k)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.mark_non_differentiable(*output)


class Total(_Once):
    forward = staticmethod(eager.total)
    setup_context = staticmethod(made_setup)
    backward = staticmethod(made_backward)


class Paired(_Once):
    forward = staticmethod(eager.paired)
    setup_context = staticmethod(made_setup)
    backward = staticmethod(made_backward)


class _Scaled(_Once):
    """upstream · g for the gradients g made in the forward pass; the tensors they were made from come last, tied into the graph.

    Out of place, so that a second backward through a retained graph finds the same bits.
    """

    @staticmethod
    def forward(upstream: Tensor, count: int, *gradients_and_origins: Tensor) -> tuple[Tensor, ...]:
        return _scaled(upstream, *gradients_and_origins[:count])


def _scaled(upstream: Tensor, *gradients: Tensor) -> tuple[Tensor, ...]:
    return tuple(upstream * g if g.numel() else g for g in gradients)
