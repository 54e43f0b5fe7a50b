"""Training on batches whose activations do not fit: gradient caching (Gao et al. 2021, arXiv 2101.06983).

    1. encode every chunk without a graph                    z = f(x), remembering the random state of each chunk
    2. the loss on all of z at once, and its gradient        dz = ∂loss/∂z; parameters inside the loss get theirs here
    3. encode each chunk again with a graph                  f(x).backward(dz), one chunk's activations alive at a time

The parameters receive the gradient of the whole batch: d loss/dθ = Σ_chunks (∂z_chunk/∂θ)ᵀ dz_chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten
from torch.utils.checkpoint import get_device_states, set_device_states

from ._checks import fail, wrong_type

Encoded = tuple[Callable[[Any], Tensor], Any]


def cached_backward(
    loss: Callable[..., Tensor],
    *encoded: Encoded,
    chunk_size: int,
    backward: Callable[[Tensor], None] = Tensor.backward,
) -> Tensor:
    """Add the gradient of `loss(f1(x1), f2(x2), …)` to all parameters, with one chunk's activations in memory at a time.

    loss        callable of the embeddings (N, D), one per encoder, to a 0-d tensor; any loss of this package, or your own
    encoded     pairs (encoder, inputs): a module or function, and what to encode, N rows each: a tensor, a tuple of tensors
                (passed as arguments), a dict (as keywords) or a list; one encoder may stand in several pairs. An encoder must
                treat rows of different chunks independently: batch normalisation sees chunks, not the batch.
    chunk_size  rows encoded at once, ≥ 1
    backward    what to call instead of loss.backward(), for mixed precision: lambda loss: scaler.scale(loss).backward()

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
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int):
        wrong_type(function, "chunk_size", chunk_size, "must be an int")
    if chunk_size < 1:
        fail(function, "chunk_size", chunk_size, "must be >= 1")
    if not torch.is_grad_enabled():
        fail(function, "grad mode", "off", "must be on: call it outside torch.no_grad() and torch.inference_mode()")
    if not encoded:
        fail(function, "encoded", "empty", "must hold at least one pair (encoder, inputs)")
    chunks = [
        (encoder, _split(function, inputs, chunk_size)) for encoder, inputs in (_pair(function, p) for p in encoded)
    ]

    buffers_before = [[buffer.clone() for buffer in _buffers(encoder)] for encoder, _ in chunks]
    states: list[list[_RandomState]] = []
    leaves: list[Tensor] = []
    with torch.no_grad():
        for encoder, parts in chunks:
            states.append([])
            embeddings = []
            for part in parts:
                states[-1].append(_RandomState(part))
                embeddings.append(_checked(function, _encode(encoder, part), part))
            leaves.append(torch.cat(embeddings).requires_grad_())

    value = loss(*leaves)
    if not isinstance(value, Tensor) or value.dim() != 0:
        wrong_type(function, "loss", value, "must return a 0-d tensor")
    backward(value)
    after = _RandomState(chunks[0][1])

    for (encoder, _), before in zip(chunks, buffers_before, strict=True):
        for buffer, kept in zip(_buffers(encoder), before, strict=True):
            buffer.copy_(kept)
    for (encoder, parts), leaf, leaf_states in zip(chunks, leaves, states, strict=True):
        gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        for part, part_gradient, state in zip(parts, gradient.split(chunk_size), leaf_states, strict=True):
            state.restore()
            z = _encode(encoder, part)
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


def _encode(encoder: Callable[..., Tensor], part: Any) -> Tensor:
    if isinstance(part, tuple):
        return encoder(*part)
    return encoder(**part) if isinstance(part, dict) else encoder(part)


def _checked(function: str, z: Any, part: Any) -> Tensor:
    """What an encoder made of some rows: a tensor of as many."""
    if not isinstance(z, Tensor):
        wrong_type(function, "encoded", z, "must pair inputs with an encoder that returns a tensor")
    rows = len(tree_leaves(part)[0])
    if z.dim() == 0 or len(z) != rows:
        made = f"an encoder that made {tuple(z.shape)} of {rows} rows"
        fail(function, "encoded", made, "must return one embedding per row")
    return z


def _split(function: str, inputs: Any, chunk_size: int) -> list[Any]:
    """The inputs in chunks of rows, each of the structure of the whole."""
    leaves, structure = tree_flatten(inputs)
    if not leaves or not all(isinstance(leaf, Tensor) and leaf.dim() > 0 for leaf in leaves):
        wrong_type(
            function, "encoded", inputs, "must pair each encoder with a tensor, or a tuple, list or dict of tensors"
        )
    if len({len(leaf) for leaf in leaves}) > 1:
        lengths = ", ".join(str(len(leaf)) for leaf in leaves)
        fail(
            function,
            "encoded",
            f"inputs of {lengths} rows",
            "must hold equally many rows in all tensors of one encoder",
        )
    if len(leaves[0]) == 0:
        fail(function, "encoded", "inputs of 0 rows", "must not be empty")
    return [
        tree_unflatten(parts, structure) for parts in zip(*(leaf.split(chunk_size) for leaf in leaves), strict=True)
    ]


def _pair(function: str, pair: Any) -> Encoded:
    if not isinstance(pair, tuple) or len(pair) != 2 or not callable(pair[0]):
        wrong_type(function, "encoded", pair, "must be pairs (encoder, inputs)")
    return pair


def _buffers(encoder: Callable[..., Tensor]) -> list[Tensor]:
    owner = getattr(encoder, "__self__", encoder)  # model.encode_image is a method of the module that holds the buffers
    return list(owner.buffers()) if isinstance(owner, nn.Module) else []
