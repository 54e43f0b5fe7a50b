"""The library's matrix products, around which kernels over strips and blocks stand, and torch's switches for their precision."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDING = ("bf16", "tf32")


def product(a: Tensor, b: Tensor, wide: torch.dtype, out: Tensor | None = None) -> Tensor:
    """a @ b by the library, summed and returned in the wider dtype."""
    if a.dtype == wide:
        return torch.mm(a, b, out=out)
    if a.is_cuda and (torch.version.cuda or torch.version.hip):
        return torch.mm(a, b, out_dtype=wide) if out is None else torch.mm(a, b, out_dtype=wide, out=out)
    return torch.mm(a.to(wide), b.to(wide), out=out)  # executed on the CPU, whose library has no such product


def tf32(dtype: torch.dtype) -> bool:
    """Whether torch's switch allows products of this dtype with 11 bits (TF32); AMD has no such mode."""
    able = dtype == torch.float32 and torch.version.hip is None
    return able and torch.backends.cuda.matmul.fp32_precision == "tf32"


def rounds_factors(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether torch's switch lets a CPU's library round the factors of such products, to bf16 or TF32."""
    switch = torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue]  the stubs lack it
    return dtype == torch.float32 and device.type == "cpu" and switch.fp32_precision in ROUNDING
