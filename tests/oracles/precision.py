"""The rounding of a matrix form in training: the places where an oracle rounds on request.

By default nothing is rounded. Inside `matrix_form(dtype)` an oracle that is given fp32 tensors behaves like the matrix form
written with care in mixed precision: fp32 scores and softmax, embeddings normalised in fp32 and rounded to `dtype`, the
gradient of the inner products rounded to `dtype` before the two matrix products that use it, fp32 accumulation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

HALF = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Rounding:
    """dtype  that of the embeddings; seed  None, or the seed of the random last bits of the scores."""

    dtype: torch.dtype
    seed: int | None


_rounding: ContextVar[Rounding | None] = ContextVar("rounding", default=None)


@contextmanager
def matrix_form(dtype: torch.dtype, seed: int | None = None) -> Iterator[None]:
    """Round as training in `dtype` does.

    With a seed, the last bits of unit rows and scores are random too (Monte Carlo arithmetic, Parker 1997), so that a result
    that is exact by luck is not so again.
    """
    token = _rounding.set(Rounding(dtype, seed))
    try:
        yield
    finally:
        _rounding.reset(token)


def unit(z: Tensor) -> Tensor:
    """Each row (last dimension) divided by its norm, or by 1e-12 if that is larger."""
    return random_last_bit(z / torch.linalg.vector_norm(z, dim=-1, keepdim=True).clamp_min(1e-12))


def unit_embeddings(z: Tensor) -> Tensor:
    """Unit rows as a matrix product receives them."""
    rounding = _rounding.get()
    z = unit(z)
    # The cast back sends the gradient through `dtype` too, as a product of half-precision operands returns it.
    return z.to(rounding.dtype).to(z.dtype) if rounding is not None and rounding.dtype in HALF else z


def inner_products(x: Tensor, y: Tensor) -> Tensor:
    """⟨x_i, y_j⟩ for (…, N, D) and (…, M, D): (…, N, M)."""
    products = random_last_bit(x @ y.transpose(-2, -1))
    rounding = _rounding.get()
    if rounding is not None and rounding.dtype in HALF and products.requires_grad:
        products.register_hook(lambda gradient: rounded(gradient, rounding.dtype))
    return products


def random_last_bit(t: Tensor) -> Tensor:
    """t, with its last bits random if the matrix form has a seed: each element up to one unit off, and each diagonal too.

    Equal scores are rounded equally, but a positive is often computed apart from its rivals: errors that are the same
    along a diagonal do not average out.
    """
    rounding = _rounding.get()
    if rounding is None or rounding.seed is None:
        return t
    generator = torch.Generator().manual_seed(rounding.seed)
    N, M = t.shape[-2:]
    along_diagonals = torch.rand(N + M, generator=generator, dtype=t.dtype)
    offset = torch.arange(M)[None, :] - torch.arange(N)[:, None]
    noise = torch.rand(t.shape, generator=generator, dtype=t.dtype) + along_diagonals[offset]
    return t * (1 + 2 * (noise - 1) * torch.finfo(t.dtype).eps)


def rounded(t: Tensor, dtype: torch.dtype) -> Tensor:
    """t with the mantissa of `dtype`, its largest element brought near 1 first, as loss scaling does for fp16."""
    largest = t.abs().amax()
    exponent = torch.frexp(torch.where(largest.isfinite(), largest, 1.0)).exponent
    return torch.ldexp(torch.ldexp(t, -exponent).to(dtype).to(t.dtype), exponent)
