"""The place of tensors in tests of a backend for GPUs: on the GPU, or on a pretended one if there is none.

Tests make tensors without naming a device. Here their tensors are made on the CPU and moved to the GPU, so that numbers are the
same everywhere. Tensors of the package stay on the device that it named, so that a forgotten device is an error.

The pretended GPU has no memory of its own, but a book of the tensors that would lie there. An operation on both memories, and a
host tensor handed to a kernel, are refused as on a GPU, so that the suite finds such errors without one. For the package,
reading a single number and copying between the memories are refused too, because the host would wait.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import jessl_kernels
from jessl_kernels.ops import autograd

PACKAGE = os.path.dirname(jessl_kernels.__file__) + os.sep
TESTS = os.path.dirname(os.path.abspath(__file__)) + os.sep
HERE, THERE, EITHER = "the host's", "the GPU's", "either"
ATEN = torch.ops.aten
# These take tensors of both memories on a GPU too.
COPIES = {ATEN.copy_, ATEN._to_copy, ATEN.index, ATEN.set_}
# Elsewhere a host tensor may be a number, that is, have no dimension.
STRICT = {ATEN.cat, ATEN.stack}
NUMPY = {Tensor.numpy, Tensor.__array__}


class Placed(TorchFunctionMode):
    """Moves the tensors that a test makes to `device`."""

    def __init__(self, device: str):
        super().__init__()
        self.device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (
            torch.compiler.is_compiling()
        ):  # Dynamo does not trace what follows, and compiled code gets tensors that lie there
            return func(*args, **kwargs)
        made = self.call(func, args, kwargs)
        by_a_test = sys._getframe(1).f_code.co_filename.startswith(TESTS)
        if not (by_a_test and _makes(func, args) and kwargs.get("device") is None):
            return self.found(func, args, kwargs, made)
        return self.put(made.detach()).requires_grad_(made.requires_grad)

    def call(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return func(*args, **kwargs)

    def put(self, made: Tensor) -> Tensor:
        return made.to(self.device)

    def found(self, func: Any, args: Any, kwargs: dict[str, Any], result: Any) -> Any:
        return result


class PretendedlyPlaced(Placed):
    """The same, with an entry in the book. It is entered inside the mode that sends every device to the CPU, so that it sees the
    requested devices."""

    def __init__(self, book: Book):
        super().__init__("cuda")
        self.book = book

    def call(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if func in NUMPY and self.book.place(args[0]) == THERE and f"{os.sep}ttsem{os.sep}" not in _caller():
            raise TypeError(f"a tensor on the GPU has no {func.__name__}")  # but kernels are executed with numpy
        return func(*args, **kwargs)

    def put(self, made: Tensor) -> Tensor:
        return self.book.enter(made, THERE)

    def found(self, func: Any, args: Any, kwargs: dict[str, Any], result: Any) -> Any:
        if not isinstance(result, Tensor):
            return result
        asked = _asked(func, args, kwargs)
        if asked is None:
            return self.book.enter(result, HERE) if _makes(func, args) else result
        before = next((t for t in args[:1] if isinstance(t, Tensor)), None)
        place = THERE if str(asked).startswith("cuda") else HERE
        if before is not None and self.book.place(before) not in (place, EITHER):
            _refuse_to_the_package(f"a copy of {tuple(before.shape)} from {self.book.place(before)} memory to {place}")
        if before is not None and before.untyped_storage()._cdata == result.untyped_storage()._cdata:
            if self.book.place(before) == place:
                return result
            result = result.clone()
        return self.book.enter(result, place)


class Book(TorchDispatchMode):
    """Records which storage lies in which memory; a tensor without an entry was made before, on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[int, tuple[str, Any]] = {}  # with the storage, so that its number is not given to another

    def enter(self, t: Tensor, place: str) -> Tensor:
        storage = t.untyped_storage()
        self.entries[storage._cdata] = place, storage
        return t

    def place(self, t: Tensor) -> str:
        return self.entries.get(t.untyped_storage()._cdata, (HERE, None))[0]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = _tensors((args, kwargs))
        places = {self.place(t) for t in given}
        if func.overloadpacket not in COPIES:
            strict = func.overloadpacket in STRICT
            hosts = [t for t in given if self.place(t) == HERE and (t.dim() or strict)]
            if hosts and THERE in places:
                shapes = ", ".join(str(tuple(t.shape)) for t in hosts)
                raise RuntimeError(f"{func} would mix two devices: {shapes} in the host's memory, others in the GPU's")
        if func.overloadpacket is ATEN._local_scalar_dense and THERE in places:
            _refuse_to_the_package("a number of the GPU's that is read")
        if func.overloadpacket is ATEN.copy_ and {HERE, THERE} <= places:
            _refuse_to_the_package(f"a copy of {tuple(given[0].shape)} between the memories")
        made = func(*args, **(kwargs or {}))
        # In a backward the requested device is not visible, so tensors made there may be used with either memory.
        place = THERE if THERE in places else HERE if HERE in places else EITHER
        if func.overloadpacket is ATEN.copy_ or func.overloadpacket is ATEN.set_:
            return made
        for t in _tensors(made):
            if t.untyped_storage()._cdata not in self.entries:
                self.enter(t, place)
        return made

    def launched(self, kernel: Any, args: Any) -> None:
        """Refuses host tensors, as a launch does."""
        for t in _tensors(args):
            if self.place(t) == HERE:
                raise RuntimeError(f"{kernel.__name__} would be handed a host tensor, of shape {tuple(t.shape)}")


def _caller(*passed: str) -> str:
    """The file of the nearest caller outside of torch, this file, and files whose names end in `passed`."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        file = frame.f_code.co_filename
        if file != __file__ and f"{os.sep}torch{os.sep}" not in file and not file.endswith(passed):
            break
        frame = frame.f_back
    return frame.f_code.co_filename


def _refuse_to_the_package(what: str) -> None:
    if _caller("sanitize.py").startswith(PACKAGE):  # by way of ttsem's mode
        raise RuntimeError(f"{what}: the host would wait for the GPU")


def _makes(func: Any, args: Any) -> bool:
    return func in _device_constructors() and not (args and isinstance(args[0], Tensor))


def _asked(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The device that a call names, or None."""
    if kwargs.get("device") is not None:
        return kwargs["device"]
    if func is Tensor.cpu or func is Tensor.cuda:
        return func.__name__
    if func is Tensor.to:
        return next((a for a in args[1:] if isinstance(a, (str, torch.device))), None)
    return None


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


@contextlib.contextmanager
def poisoned(*, warn_only: bool) -> Iterator[None]:
    """Memory that nobody has written holds NaN, by torch's deterministic mode.

    warn_only  operations without a deterministic form are used all the same
    """
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextlib.contextmanager
def pretended() -> Iterator[None]:
    """Two memories, within a session of the executor."""
    from triton.runtime.jit import JITFunction

    book, run = Book(), JITFunction.run

    def checked(kernel: Any, *args: Any, **options: Any) -> Any:
        book.launched(kernel, args)
        return run(kernel, *args, **options)

    with (
        mock.patch.object(JITFunction, "run", checked),
        mock.patch.object(autograd, "_is_one", lambda upstream: False),  # in a backward tensors name the host's device
        PretendedlyPlaced(book),
        book,
    ):
        yield
