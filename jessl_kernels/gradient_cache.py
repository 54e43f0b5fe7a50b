"""Training on batches whose activations do not fit: gradient caching (Gao et al. 2021, arXiv 2101.06983).

    1. encode every chunk without a graph                    z = f(x); remember the random state of each chunk
    2. the loss on all of z at once, and its gradient        dz = ∂loss/∂z; parameters of the loss get their gradients here
    3. encode each chunk again with a graph                  f(x).backward(dz), with one chunk's activations at a time

The parameters receive the gradient of the whole batch: d loss/dθ = Σ_chunks (∂z_chunk/∂θ)ᵀ dz_chunk.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import get_device_states, set_device_states

from ._checks import fail, integer, wrong_type

Encoded = tuple[Callable[..., Any], Any]


def cached_backward(
    loss: Callable[..., Tensor],
    *encoded: Encoded,
    chunk_size: int | Sequence[int],
    get_representation: Callable[[Any], Tensor] | None = None,
    backward: Callable[[Tensor], None] = Tensor.backward,
) -> Tensor:
    """Add the gradient of `loss(f1(x1), f2(x2), …)` to all parameters, with one chunk's activations in memory at a time.

    loss        callable of the embeddings (N, D), one per encoder, to a 0-d tensor; any loss of this package, or your own
    encoded     pairs (encoder, inputs): a module or function, and its inputs of N rows: a tensor, a tuple (passed as arguments),
                a mapping (passed as keywords: a dict, a tokenizer's BatchEncoding) or a list of N texts, or others. Tensors and
                lists inside tuples and mappings are cut into chunks; None, flags and numbers go to every call unchanged.
                One encoder may occur in several pairs. It must treat rows of different chunks independently: batch normalisation
                in training mode sees chunks, not the batch, and its gradient is that of another loss; a warning says so if the
                encoder is a module, its method or a functools.partial of either.
    chunk_size  rows encoded at once, ≥ 1; or one such number for each pair
    get_representation   a function from an encoder's output, if that is no tensor but a dict, a tuple or a ModelOutput, to its
                embeddings (rows, D): lambda output: output.pooler_output
    backward    a function to call instead of loss.backward(), for mixed precision: lambda loss: scaler.scale(loss).backward()

    Dropout and other random layers draw the same numbers in both encodings. Buffers, such as running statistics, are updated
    once if the encoder is a module or its method; a function around a module hides them, and they are updated twice.
    Parameter gradients accumulate, as in any backward; x1, x2, … receive none.

    Returns the loss, detached. Raises ValueError or TypeError naming the argument at fault.

    >>> optimizer.zero_grad()
    >>> loss = jk.cached_backward(jk.nt_xent, (encoder, view1), (encoder, view2), chunk_size=256)
    >>> optimizer.step()
    """
    function = "cached_backward"
    for name, value in (("loss", loss), ("backward", backward)):
        if not callable(value):
            wrong_type(function, name, value, "must be a function or module to call")
    if get_representation is not None and not callable(get_representation):
        wrong_type(
            function, "get_representation", get_representation, "must be a function of what an encoder returns, or None"
        )
    if not torch.is_grad_enabled():
        fail(function, "grad mode", "off", "must be on: call it outside torch.no_grad() and torch.inference_mode()")
    if not encoded:
        fail(function, "encoded", "empty", "must hold at least one pair (encoder, inputs)")
    sizes = _sizes(function, chunk_size, len(encoded))
    chunks = [
        (encoder, _split(function, inputs, size), size)
        for (encoder, inputs), size in zip((_pair(function, p) for p in encoded), sizes, strict=True)
    ]
    for encoder, parts, _ in chunks:
        _warn_of_batch_norm(encoder, parts)

    def embed(encoder: Callable[..., Any], part: Any) -> Tensor:
        output = _encode(encoder, part)
        return _checked(function, output if get_representation is None else get_representation(output), part)

    buffers_before = [[buffer.clone() for buffer in _buffers(encoder)] for encoder, *_ in chunks]
    states: list[list[_RandomState]] = []
    leaves: list[Tensor] = []
    with torch.no_grad():
        for encoder, parts, _ in chunks:
            states.append([])
            embeddings = []
            for part in parts:
                states[-1].append(_RandomState(part))
                embeddings.append(embed(encoder, part))
            leaves.append(torch.cat(embeddings).requires_grad_())

    value = loss(*leaves)
    if not isinstance(value, Tensor) or value.dim() != 0:
        wrong_type(function, "loss", value, "must return a 0-d tensor")
    backward(value)
    after = _RandomState(chunks[0][1])

    for (encoder, *_), before in zip(chunks, buffers_before, strict=True):
        for buffer, kept in zip(_buffers(encoder), before, strict=True):
            buffer.copy_(kept)
    for (encoder, parts, size), leaf, leaf_states in zip(chunks, leaves, states, strict=True):
        gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        for part, part_gradient, state in zip(parts, gradient.split(size), leaf_states, strict=True):
            state.restore()
            z = embed(encoder, part)
            if z.requires_grad:
                z.backward(part_gradient)
    after.restore()
    return value.detach()


class _RandomState:
    """The random generators of the CPU and of the devices that hold some tensors."""

    def __init__(self, tensors: Any):
        self.cpu = torch.get_rng_state()
        self.devices = get_device_states(*tree_leaves(tensors))

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        set_device_states(*self.devices)


def _encode(encoder: Callable[..., Any], part: Any) -> Any:
    if isinstance(part, tuple):
        return encoder(*part)
    return encoder(**part) if isinstance(part, dict) else encoder(part)


def _checked(function: str, z: Any, part: Any) -> Tensor:
    """The output of an encoder for some rows: a tensor with as many rows."""
    if not isinstance(z, Tensor):
        must = "must pair inputs with an encoder that returns a tensor, or get_representation must find it"
        wrong_type(function, "encoded", z, must)
    rows = next(_lengths(part))
    if z.dim() == 0 or len(z) != rows:
        made = f"an encoder that made {tuple(z.shape)} of {rows} rows"
        fail(function, "encoded", made, "must return one embedding per row")
    return z


def _sizes(function: str, chunk_size: int | Sequence[int], pairs: int) -> Sequence[int]:
    each = chunk_size if isinstance(chunk_size, (tuple, list)) else [chunk_size] * pairs
    sizes = [integer(function, "chunk_size", size, "must be an int, or one for each pair") for size in each]
    for size in sizes:
        if size < 1:
            fail(function, "chunk_size", size, "must be >= 1")
    if len(each) != pairs:
        fail(function, "chunk_size", f"{len(each)} numbers", f"must be one, or {pairs}, one for each pair")
    return sizes


def _split(function: str, inputs: Any, chunk_size: int) -> list[Any]:
    """The inputs in chunks of rows, each with the structure of the whole."""
    lengths = list(_lengths(inputs))
    if not lengths:
        must = "must pair each encoder with a tensor, a list of rows, or a tuple or mapping that holds some"
        wrong_type(function, "encoded", inputs, must)
    if len(set(lengths)) > 1:
        was, must = ", ".join(map(str, lengths)), "must hold equally many rows in everything that one encoder is given"
        fail(function, "encoded", f"inputs of {was} rows", must)
    if lengths[0] == 0:
        fail(function, "encoded", "inputs of 0 rows", "must not be empty")
    return [_cut(inputs, slice(first, first + chunk_size)) for first in range(0, lengths[0], chunk_size)]


def _is_of_rows(value: Any) -> bool:
    """Whether a value is cut along its first dimension; texts and images come in lists."""
    if isinstance(value, Tensor):
        return value.dim() > 0
    return isinstance(value, list) and not any(isinstance(entry, Tensor) for entry in value)


def _lengths(value: Any) -> Iterator[int]:
    if _is_of_rows(value):
        yield len(value)
    elif isinstance(value, (Mapping, tuple, list)):
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from _lengths(entry)


def _cut(value: Any, here: slice) -> Any:
    if _is_of_rows(value):
        return value[here]
    if isinstance(value, Mapping):
        return {name: _cut(entry, here) for name, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return (tuple if isinstance(value, tuple) else list)(_cut(entry, here) for entry in value)
    return value


def _warn_of_batch_norm(encoder: Callable[..., Any], parts: list[Any]) -> None:
    owner = _owner(encoder)
    if len(parts) == 1 or not isinstance(owner, nn.Module):
        return
    for name, module in owner.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            advice = "put it into eval mode, use GroupNorm or LayerNorm, or chunk_size >= the batch"
            warnings.warn(
                f"cached_backward: {name or type(module).__name__} normalises each of {len(parts)} chunks by its own mean and "
                f"deviation, so that the gradient is not that of the batch: {advice}",
                stacklevel=3,
            )
            return


def _pair(function: str, pair: Any) -> Encoded:
    if not isinstance(pair, tuple) or len(pair) != 2 or not callable(pair[0]):
        wrong_type(function, "encoded", pair, "must be pairs (encoder, inputs)")
    return pair


def _owner(encoder: Callable[..., Any]) -> Any:
    while isinstance(encoder, functools.partial):
        encoder = encoder.func
    return getattr(encoder, "__self__", encoder)  # model.encode_image is a method of the module that holds the buffers


def _buffers(encoder: Callable[..., Any]) -> list[Tensor]:
    owner = _owner(encoder)
    return list(owner.buffers()) if isinstance(owner, nn.Module) else []
