"""What the server of `processes` imports once, for all processes that it forks: nothing here computes."""

import contextlib

import torch
import torch._dynamo
import torch._inductor.compile_fx

import jessl_kernels

from . import measure

with contextlib.suppress(ImportError):  # an absent peer is told by the contender that wants it
    import tests.peers.installed  # noqa: F401

__all__ = ["jessl_kernels", "measure", "torch"]
