"""Autocast in this package: dot scores are computed from embeddings in its dtype; everything else stays in fp32.

It is applied once, where a loss prepares its embeddings or a reduction receives them, and is off below that.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def under_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Embeddings of a dot score in the dtype of autocast; fp64, and tensors outside of autocast, keep their dtype."""
    device = tensors[0].device.type
    if not is_on(device) or tensors[0].dtype == torch.float64:
        return tensors
    return tuple(t.to(torch.get_autocast_dtype(device)) for t in tensors)


def without_autocast(device: torch.device) -> AbstractContextManager:
    """A block in which operations on this device keep the dtypes of their arguments."""
    return torch.autocast(device.type, enabled=False) if is_on(device.type) else nullcontext()


def is_on(device: str) -> bool:
    """Whether operations on devices of this type are cast."""
    # Dynamo of torch 2.11 cannot trace the question whether a device has autocast. Of its device types only meta has none.
    compiling = torch.compiler.is_compiling()
    available = device != "meta" if compiling else torch.amp.is_autocast_available(device)
    return available and torch.is_autocast_enabled(device)
