"""The one table of backends, dtypes, shapes and batches that parametrises the suite, with a reason for each."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import jessl_kernels as jk

BACKENDS = ("reference", "chunked", "cpu", "triton", "cuda")
DTYPES = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,  # 8 bits of mantissa: cancellation shows at once
    "fp16": torch.float16,  # 5 bits of exponent: small weights vanish
}
SHAPES = {
    "1x1": (1, 1, 1),  # the smallest of everything
    "2x7-D3": (2, 7, 3),  # rectangular, fewer rows than columns
    "7x2-D1": (7, 2, 1),  # the other way round, one dimension
    "127x129-D64": (127, 129, 64),  # one under and one over a power of two
    "129x127-D3": (129, 127, 3),  # more rows than the shortest strip
    "33x40-D768": (33, 40, 768),  # wide embeddings
}
ROWS = {"n1": 1, "n2": 2, "n7": 7, "n129": 129}
# Strips of very few rows: every loop runs more than once, and the last strip is ragged.
SMALL_WORKSPACE = 3000

backends = pytest.mark.parametrize("backend", BACKENDS)
dtypes = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
LEVELS = ("portable", "avx2", "avx512")  # instruction sets of the C++ core
levels = pytest.mark.parametrize("level", LEVELS)
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def columns(*widths: int, seed: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """Standard normal vectors of these lengths, held exactly by fp32."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, generator=generator).to(dtype) for n in widths]


def planned(x: torch.Tensor, y: torch.Tensor | None = None, **options: Any):
    """What `jk.explain` says of one reduction: of the function whose word is among the options."""
    function = jk.row_loss if "join" in options else jk.pairwise_sum if "psi" in options else jk.pairwise_logsumexp
    (step,) = jk.explain(function, x, y, **options).steps
    return step
