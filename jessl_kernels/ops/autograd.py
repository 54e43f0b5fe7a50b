"""Derivatives of the operators, shared by the eager functions here and the registered operators of `library.py`.

`row_loss` and `total` bring their gradients along as outputs, and their backward only multiplies them by the arriving number.
`attach` gives sums that are at hand the gradient that another sweep over the pairs makes of what arrives at them. Nothing here
has a second derivative, and saying so is part of the formulas: see `_no_second_derivative`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor  # pyright: ignore[reportMissingModuleSource, reportMissingImports]
from torch.autograd import Function

from ..problem.flat import Tensors, Words
from . import eager
from .eager import LossWords, Who, in_pieces

REAL = (Tensor, torch.nn.Parameter)


def is_real(*tensors: Tensor | None) -> bool:
    """Whether backends can be called with them: outside of a trace, and of no subclass that stands for something else."""
    return not torch.compiler.is_compiling() and all(t is None or (type(t) in REAL and not t.is_meta) for t in tensors)


def is_plain(*tensors: Tensor | None) -> bool:
    """Real, and outside of torch.func, whose transforms want functions of another form."""
    return is_real(*tensors) and not torch._C._are_functorch_transforms_active()


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


class WithGradients(_Once):
    """A value that brings the gradients of some tensors along. `make` returns it and them, None where nobody asked; of tensors
    that are there.

    What `RowLoss` is under torch.func, in a third of its time: with gradients that need not be outputs, and a forward that need
    not be told apart from its setup.
    """

    @staticmethod
    def forward(ctx: Any, make: Callable[[], tuple[Tensor, Sequence[Tensor | None]]], *tensors: Tensor) -> Tensor:
        value, gradients = make()
        ctx.save_for_backward(*tensors, *gradients)
        return value

    setup_context = Function.setup_context  # none: forward has the context

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple:
        saved = ctx.saved_tensors  # once: activation checkpointing lets nobody unpack them twice
        tensors, gradients = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        made = gradients if _is_one(upstream) else _times(upstream, gradients, tensors, rounded=True)
        return None, *(
            g.to(tensor.dtype) if tensor is not None and g is not None and needed else None
            for g, tensor, needed in zip(made, tensors, ctx.needs_input_grad[1:], strict=True)
        )


def made_setup(ctx: Any, words: Words, tensors: Tensors, flags: Sequence[bool], output: tuple[Tensor, ...]) -> None:
    """Of an operator whose outputs are a value and its gradients."""
    ctx.words, ctx.flags, ctx.there = words, tuple(flags), [t is not None for t in tensors]
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*tensors[: words.differentiable], *output[1:])


def made_backward(ctx: Any, upstream: Tensor, *_: Tensor) -> list[Tensor | None]:
    """One gradient for each tensor that may have one."""
    saved, count = ctx.saved_tensors, ctx.words.differentiable
    inputs, gradients = saved[:count], saved[count:]
    made = _times(upstream, gradients, inputs)
    return _like(in_pieces(ctx.words.x, ctx.words.y, inputs, made, ctx.flags), inputs)  # pyright: ignore[reportArgumentType]


def _like(made: Sequence[Tensor | None], inputs: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [None if g is None or t is None else g.to(t.dtype) for g, t in zip(made, inputs, strict=True)]


def _is_one(upstream: Tensor) -> bool:
    """Whether gradients need no product and may be handed out as they are: `loss.backward()` of a batch whose pages, new from
    the system, would take longer to touch than its loss. Not asked of a GPU, which would have to be waited for."""
    plain = type(upstream) is Tensor and not torch.is_grad_enabled() and not torch.compiler.is_compiling()
    return plain and upstream.device.type == "cpu" and not _is_transformed(upstream) and upstream.item() == 1.0


def _is_transformed(upstream: Tensor) -> bool:
    """Whether it is one of torch.func's tensors, or of `is_grads_batched`, of which torch takes no item and no `out`."""
    return torch._C._are_functorch_transforms_active() or is_legacy_batchedtensor(upstream)


def _times(
    upstream: Tensor, gradients: Sequence[Tensor | None], tied: Sequence[Tensor | None], *, rounded: bool = False
) -> Sequence[Tensor | None]:
    """upstream · g; tied to the tensors that the g came from where somebody wants a second derivative, and must be refused.

    rounded  results are in the dtypes of `tied`, by one launch each
    """
    there = [g for g in gradients if g is not None]
    if torch.is_grad_enabled():
        made = iter(_Scaled.apply(upstream, len(there), *there, *(t for t in tied if t is not None)))
        return [None if g is None else next(made) for g in gradients]
    if rounded and not _is_transformed(upstream):
        return [
            torch.mul(upstream, g, out=torch.empty_like(g, dtype=t.dtype)) if t is not None and g is not None else g
            for g, t in zip(gradients, tied, strict=True)
        ]
    return [None if g is None else _scaled(upstream, g)[0] for g in gradients]


class _Scaled(_Once):
    """upstream · g for the gradients g made in the forward pass; the tensors they were made from come last, tied into the graph.

    Out of place, so that a second backward through a retained graph finds the same bits.
    """

    @staticmethod
    def forward(upstream: Tensor, count: int, *gradients_and_origins: Tensor) -> tuple[Tensor, ...]:
        return _scaled(upstream, *gradients_and_origins[:count])


def _scaled(upstream: Tensor, *gradients: Tensor) -> tuple[Tensor, ...]:
    return tuple(upstream * g if g.numel() else g for g in gradients)


class RowLoss(_Once):
    """tensors  of the problem, and the weights of rows and of columns"""

    @staticmethod
    def forward(words: Words, loss: LossWords, who: Who, flags: tuple[bool, ...], *tensors: Tensor | None) -> tuple:
        return eager.row_loss(words, loss, who, flags, tensors[:-2], tensors[-2:])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        words, _, _, flags, *tensors = inputs
        made_setup(ctx, words, tuple(tensors), flags, output)
        ctx.others = len(tensors) - words.differentiable

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple:
        return None, None, None, None, *made_backward(ctx, *upstream), *[None] * ctx.others


class Total(_Once):
    @staticmethod
    def forward(words: Words, who: Who, flags: tuple[bool, ...], *tensors: Tensor | None) -> tuple:
        return eager.total(words, who, flags, tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        words, _, flags, *tensors = inputs
        made_setup(ctx, words, tuple(tensors), flags, output)
        ctx.others = len(tensors) - words.differentiable

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple:
        return None, None, None, *made_backward(ctx, *upstream), *[None] * ctx.others


class RowSums(_Once):
    """Which have no gradient of their own: `attach` gives it to what is made of them."""

    @staticmethod
    def forward(words: Words, who: Who, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        return eager.row_sums(words, who, tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.mark_non_differentiable(*output)


class RowGrads(_Once):
    """slopes, sums and the tensors of the problem, in this order."""

    @staticmethod
    def forward(words: Words, who: Who, flags: tuple[bool, ...], *tensors: Tensor | None) -> tuple[Tensor, ...]:
        slopes, sums, rest = split(tensors)
        return eager.row_grads(words, who, flags, rest, sums, slopes)


class TopK(_Once):
    """Whose places have no gradient; from the values at them `pairwise_topk` makes others, which have."""

    @staticmethod
    def forward(words: Words, k: int, who: Who, *tensors: Tensor | None) -> tuple[Tensor, Tensor]:
        return eager.top_k(words, k, who, tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.mark_non_differentiable(*output)


def split(tensors: Sequence[Any]) -> tuple[list[Tensor], list[Tensor], Tensors]:
    """Slopes or values, sums, and the tensors of the problem."""
    values, sums = 2 * eager.SLOPES, 2 * eager.SIDE
    return list(tensors[:values]), list(tensors[values : values + sums]), tuple(tensors[values + sums :])


def attach_setup(
    ctx: Any, words: Words, who: Who, values: Sequence[Tensor], sums: Sequence[Tensor], tensors: Tensors
) -> None:
    ctx.words, ctx.who, ctx.values, ctx.there = words, who, len(values), [t is not None for t in tensors]
    ctx.save_for_backward(*sums, *tensors)


def attach_backward(
    ctx: Any, upstream: Sequence[Tensor], flags: Sequence[bool], grads: Callable[..., tuple[Tensor, ...]]
) -> list[Tensor | None]:
    """One gradient for each tensor of the problem that may have one; `grads` makes them, of slopes, sums and tensors."""
    saved = ctx.saved_tensors
    sums, tensors = saved[: 2 * eager.SIDE], saved[2 * eager.SIDE :]
    made = grads(ctx.words, ctx.who, tuple(flags), upstream, sums, tensors)
    inputs = tensors[: ctx.words.differentiable]
    return _like(in_pieces(ctx.words.x, ctx.words.y, inputs, made, flags), inputs)


class Attach(_Once):
    """Values that were made of sums, unchanged; what arrives at them goes on to the problem that was summed.

    values, sums and the tensors of the problem, in this order."""

    @staticmethod
    def forward(words: Words, who: Who, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        return tuple(value.clone() for value in split(tensors)[0])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        words, who, *tensors = inputs
        values, sums, rest = split(tensors)
        attach_setup(ctx, words, who, values, sums, rest)
        ctx.mark_non_differentiable(*(value for value in output if not value.numel()))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple:
        values, count = ctx.values, ctx.words.differentiable
        skipped = 2 + values + 2 * eager.SIDE
        flags = ctx.needs_input_grad[skipped : skipped + count]
        made = attach_backward(ctx, upstream, flags, row_grads)
        others = len(ctx.needs_input_grad) - skipped - count
        return None, None, *upstream, *[None] * (2 * eager.SIDE), *made, *[None] * others


def row_grads(
    words: Words, who: Who, flags: tuple[bool, ...], slopes: Sequence[Tensor], sums: Sequence[Tensor], tensors: Tensors
) -> tuple[Tensor, ...]:
    return RowGrads.apply(words, who, flags, *slopes, *sums, *tensors)
