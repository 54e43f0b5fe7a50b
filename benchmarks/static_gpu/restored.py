"""What a session of the executor leaves behind, undone: its answers for torch.cuda, and its driver."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from triton.runtime import driver


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """After the block torch.cuda and Triton's driver are what they were: on a machine without a GPU it has none again."""
    before, active = dict(vars(torch.cuda)), driver._active
    try:
        yield
    finally:
        driver._active = active
        for name, was in before.items():
            setattr(torch.cuda, name, was)
