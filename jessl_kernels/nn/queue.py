"""Keys of earlier batches, as MoCo and cross-batch memory keep them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._checks import FLOATS, embeddings, fail, flag, integer, wrong_type
from ..problem.exclude import ids_like


class Queue(nn.Module):
    """The last keys of earlier batches, first in first out, which never require a gradient (MoCo, arXiv 1911.05722; with labels
    cross-batch memory, arXiv 1912.06798).

    size    the number of keys it holds, > 0
    dim     the columns of a key, > 0
    labels  hold a label, or an id, for each key too

    Keys and labels are buffers, which follow `to(device)` and dtype. The `state_dict` holds them and how far the queue is filled.
    A queue is a graph break for torch.compile. Batches need not divide its size; it keeps the last keys of a larger batch.

    Raises ValueError or TypeError naming the argument at fault.

    >>> queue = jk.nn.Queue(4096, query.shape[1])
    >>> loss = jk.info_nce(query, positive, queue.keys)      # in the first step there are none
    >>> queue.enqueue(positive)
    """

    held: Tensor
    held_labels: Tensor | None

    def __init__(self, size: int, dim: int, *, labels: bool = False, dtype: torch.dtype | None = None):
        super().__init__()
        for name, value in (("size", size), ("dim", dim)):
            if integer("Queue", name, value) < 1:
                fail("Queue", name, value, "must be > 0")
        if dtype is not None and dtype not in FLOATS:
            wrong_type("Queue", "dtype", dtype, "must be float64, float32, bfloat16 or float16")
        self.size, self.dim = int(size), int(dim)
        self.register_buffer("held", torch.zeros(size, dim, dtype=dtype))
        of_keys = torch.full((size,), -1) if flag("Queue", "labels", labels) else None
        self.register_buffer("held_labels", of_keys)
        self._next, self._filled = 0, 0  # on the host, so that nothing waits for a device

    @property
    def keys(self) -> Tensor:
        """(n, dim) the present keys, in no particular order; a copy, which later batches do not overwrite."""
        return self._there(self.held)

    @property
    def labels(self) -> Tensor:
        """(n,) the labels of the keys."""
        if self.held_labels is None:
            fail("Queue", "labels", "asked for", "are not held: make it with labels=True")
        return self._there(self.held_labels)

    @torch.compiler.disable()  # the filled length would give a new program in every step
    def _there(self, of_keys: Tensor) -> Tensor:
        return of_keys[: self._filled].clone()

    @torch.compiler.disable()
    @torch.no_grad()
    def enqueue(self, keys: Tensor, labels: Tensor | None = None) -> None:
        """Put the keys of a batch, (N, dim), in place of the oldest; with labels, also the (N,) integers of these keys.

        Raises ValueError or TypeError naming the argument at fault.
        """
        embeddings("Queue.enqueue", "keys", keys)
        if keys.shape[1] != self.dim:
            fail("Queue.enqueue", "keys", f"of shape {tuple(keys.shape)}", f"must have {self.dim} columns")
        if keys.device != self.held.device:
            fail("Queue.enqueue", "keys", f"on {keys.device}", f"must be on {self.held.device} like the queue")
        if (labels is None) != (self.held_labels is None):
            must = (
                "must be given, as the queue holds labels" if labels is None else "must be None: the queue holds none"
            )
            fail("Queue.enqueue", "labels", "None" if labels is None else "given", must)
        if labels is not None:
            labels = ids_like("Queue.enqueue", "labels", labels, len(keys), ("keys", keys), ", one per key")
        last = keys[-self.size :]
        at = (self._next + torch.arange(len(last), device=self.held.device)) % self.size
        self.held[at] = last.to(self.held.dtype)
        if labels is not None and self.held_labels is not None:
            self.held_labels[at] = labels[-self.size :]
        self._next = (self._next + len(last)) % self.size
        self._filled = min(self._filled + len(last), self.size)

    def get_extra_state(self) -> Tensor:
        return torch.tensor([self._next, self._filled])

    def set_extra_state(self, state: Tensor) -> None:
        if int(state.max()) > self.size:
            fail(
                "Queue",
                "state_dict",
                f"of a queue of {int(state.max())} keys or more",
                f"must be of one of {self.size}",
            )
        self._next, self._filled = state.tolist()

    def extra_repr(self) -> str:
        labels = ", labels=True" if self.held_labels is not None else ""
        return f"{self.size}, {self.dim}{labels}, filled={self._filled}"
