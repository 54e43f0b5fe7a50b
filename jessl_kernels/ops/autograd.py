"""Derivatives of the operators, shared by the eager functions here and the registered operators of `library.py`.

`row_loss` and `total` return their gradients as further outputs, and their backward only multiplies them by the upstream
gradient. `attach` passes the upstream gradients of existing sums to another sweep over the pairs. Nothing here has a second
derivative, and a request for one is refused: see `_no_second_derivative`.
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
from ..problem.types import Attended
from . import eager
from .eager import LossWords, Who, in_pieces

REAL = (Tensor, torch.nn.Parameter)


def is_real(*tensors: Tensor | None) -> bool:
    """Whether backends can be called with these tensors: not in a trace, and not of a subclass that stands for something else."""
    return not torch.compiler.is_compiling() and all(t is None or (type(t) in REAL and not t.is_meta) for t in tensors)


def is_plain(*tensors: Tensor | None) -> bool:
    """Whether tensors are real and outside of torch.func, whose transforms need functions of another form."""
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
    """A function that is differentiable once, in reverse mode, and raises otherwise."""

    def __init_subclass__(cls) -> None:
        # Function.apply looks up the signature of forward at every call, which takes 20 µs unless it is stored here.
        cls.forward.__signature__ = inspect.signature(cls.forward)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        pass

    backward = staticmethod(_no_second_derivative)
    vmap = staticmethod(no_vmap)
    jvp = staticmethod(no_jvp)


class WithGradients(_Once):
    """A value with the gradients of some tensors. `make` returns both, with None for a gradient that is not requested.

    `RowLoss` does the same under torch.func in three times the time: there gradients must be outputs, and forward must be
    separate from its setup.
    """

    @staticmethod
    def forward(ctx: Any, make: Callable[[], tuple[Tensor, Sequence[Tensor | None]]], *tensors: Tensor) -> Tensor:
        value, gradients = make()
        ctx.save_for_backward(*tensors, *gradients)
        return value

    setup_context = Function.setup_context  # the default: forward takes the context

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple:
        saved = ctx.saved_tensors  # once: activation checkpointing forbids to unpack them twice
        tensors, gradients = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        made = gradients if _is_one(upstream) else _times(upstream, gradients, tensors, rounded=True)
        return None, *(
            g.to(tensor.dtype) if tensor is not None and g is not None and needed else None
            for g, tensor, needed in zip(made, tensors, ctx.needs_input_grad[1:], strict=True)
        )


def made_setup(ctx: Any, words: Words, tensors: Tensors, flags: Sequence[bool], output: tuple[Tensor, ...]) -> None:
    """The setup of an operator whose outputs are a value and its gradients."""
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
    """Whether the upstream gradient is 1, as in `loss.backward()`, so that gradients are returned unchanged: touching new pages
    for a product takes longer than a small loss. A GPU's value is not read, because that would wait."""
    plain = type(upstream) is Tensor and not torch.is_grad_enabled() and not torch.compiler.is_compiling()
    return plain and upstream.device.type == "cpu" and not _is_transformed(upstream) and upstream.item() == 1.0


def _is_transformed(upstream: Tensor) -> bool:
    """Whether it is a tensor of torch.func or of `is_grads_batched`, for which torch supports neither item nor `out`."""
    return torch._C._are_functorch_transforms_active() or is_legacy_batchedtensor(upstream)


def _times(
    upstream: Tensor, gradients: Sequence[Tensor | None], tied: Sequence[Tensor | None], *, rounded: bool = False
) -> Sequence[Tensor | None]:
    """upstream · g. With grad mode on it stays in the graph of the tensors `tied`, so that a second derivative can be refused.

    rounded  results have the dtypes of `tied`, by one launch each
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
    """upstream · g for the gradients g made in the forward pass; the last arguments are their origins, which stay in the graph.

    It is out of place, so that a second backward through a retained graph gives the same bits.
    """

    @staticmethod
    def forward(upstream: Tensor, count: int, *gradients_and_origins: Tensor) -> tuple[Tensor, ...]:
        return _scaled(upstream, *gradients_and_origins[:count])


def _scaled(upstream: Tensor, *gradients: Tensor) -> tuple[Tensor, ...]:
    return tuple(upstream * g if g.numel() else g for g in gradients)


class RowLoss(_Once):
    """tensors  those of the problem, then the weights of rows and of columns"""

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
    """Sums without a gradient: `attach` gives one to the values made from them."""

    @staticmethod
    def forward(words: Words, who: Who, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        return eager.row_sums(words, who, tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.mark_non_differentiable(*output)


class RowGrads(_Once):
    """Takes slopes, sums and the tensors of the problem, in this order."""

    @staticmethod
    def forward(words: Words, who: Who, flags: tuple[bool, ...], *tensors: Tensor | None) -> tuple[Tensor, ...]:
        slopes, sums, rest = split(tensors)
        return eager.row_grads(words, who, flags, rest, sums, slopes)


class TopK(_Once):
    """Values and indices without a gradient; `pairwise_topk` computes the values again from the chosen pairs, with one."""

    @staticmethod
    def forward(words: Words, k: int, who: Who, *tensors: Tensor | None) -> tuple[Tensor, Tensor]:
        return eager.top_k(words, k, who, tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.mark_non_differentiable(*output)


class Attend(_Once):
    @staticmethod
    def forward(words: Words, who: Who, values: Tensor, *tensors: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        return eager.attend(words, who, tensors, values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
        words, who, values, *tensors = inputs
        attend_setup(ctx, words, who, values, tuple(tensors), output)
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple:
        of_values, count = ctx.needs_input_grad[2], ctx.words.differentiable
        flags = (*ctx.needs_input_grad[3 : 3 + count], of_values)
        made, value = attend_backward(ctx, upstream, flags, AttendGrads.apply)
        return None, None, value, *made, *[None] * (len(ctx.needs_input_grad) - 3 - count)


class AttendGrads(_Once):
    """Takes the sums, `Attended` and the tensors of the problem, in this order."""

    @staticmethod
    def forward(words: Words, who: Who, flags: tuple[bool, ...], *tensors: Tensor) -> tuple[Tensor, ...]:
        return eager.attend_grads(words, who, flags, tensors[5:], tensors[:2], Attended(*tensors[2:5]))


def attend_setup(
    ctx: Any, words: Words, who: Who, values: Tensor, tensors: Tensors, output: tuple[Tensor, ...]
) -> None:
    ctx.words, ctx.who, ctx.there = words, who, [t is not None for t in tensors]
    ctx.save_for_backward(values, *output, *tensors)


def attend_backward(
    ctx: Any, upstream: Tensor, flags: Sequence[bool], grads: Callable[..., tuple[Tensor, ...]]
) -> tuple[list[Tensor | None], Tensor | None]:
    """One gradient for each tensor of the problem that may have one, and that of the values; `grads` makes them."""
    values, out, reference, total, *tensors = ctx.saved_tensors
    inner = (upstream * out).sum(dim=1)
    made = grads(ctx.words, ctx.who, tuple(flags), reference, total, upstream, values, inner, *tensors)
    inputs = tensors[: ctx.words.differentiable]
    found = _like(in_pieces(ctx.words.x, ctx.words.y, tuple(inputs), made[:-1], flags[:-1]), inputs)
    return found, made[-1].to(values.dtype) if flags[-1] else None


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
    """One gradient for each tensor of the problem that may have one; `grads` makes them from slopes, sums and tensors."""
    saved = ctx.saved_tensors
    sums, tensors = saved[: 2 * eager.SIDE], saved[2 * eager.SIDE :]
    made = grads(ctx.words, ctx.who, tuple(flags), upstream, sums, tensors)
    inputs = tensors[: ctx.words.differentiable]
    return _like(in_pieces(ctx.words.x, ctx.words.y, inputs, made, flags), inputs)


class Attach(_Once):
    """Values that were made from sums, unchanged; their upstream gradients go on to the problem that was summed.

    It takes values, sums and the tensors of the problem, in this order."""

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
