"""What the server of `processes` imports once, for all processes that it forks: no tensor is computed, no thread started.

Not our own package: a process forked after that was loaded computes on threads of its own instead of torch's
(csrc/cpu/threads.cpp), which is not what a user's process does. Each process imports it anew, in some 50 ms.
"""

import contextlib

import torch
import torch._dynamo
import torch._inductor.compile_fx
import torch._inductor.cpu_vec_isa

with contextlib.suppress(ImportError):  # an absent peer is told by the contender that wants it
    import tests.peers.installed  # noqa: F401

torch._inductor.cpu_vec_isa.pick_vec_isa()  # a second of trying compiler flags, remembered

__all__ = ["torch"]
