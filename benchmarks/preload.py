"""What the server of `processes` imports once, for all processes that it forks: no tensor is computed, no thread started."""

import contextlib

import torch
import torch._dynamo
import torch._inductor.compile_fx
import torch._inductor.cpu_vec_isa

import jessl_kernels

from . import measure

with contextlib.suppress(ImportError):  # an absent peer is told by the contender that wants it
    import tests.peers.installed  # noqa: F401

torch._inductor.cpu_vec_isa.pick_vec_isa()  # a second of trying compiler flags, remembered

__all__ = ["jessl_kernels", "measure", "torch"]
