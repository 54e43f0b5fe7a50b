"""The backends and the choice among them. A backend is a module with functions and a list of reasons to decline a problem; the
first backend without a reason is taken. `protocol.py` lists the functions.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import threading
import warnings
from dataclasses import dataclass

import torch

from .._checks import fail, integer, number, wrong_type
from ..literals import BACKEND_NAMES, BackendName
from ..native import NativeStatus, cuda_status, native_status
from ..problem.row_loss import RowProblem
from ..problem.score import Score
from . import chunked, cpu, cuda, reference, triton
from .protocol import Backend

_modules: tuple[Backend, ...] = (cpu, triton, cuda, chunked, reference)  # by device, and then in order of preference
BACKENDS: dict[str, Backend] = {module.NAME: module for module in _modules}
# The default bytes that a backend may use beyond inputs, outputs and a few vectors. On a GPU each strip or block costs some
# launches, 0.1 ms in all, so they should be few; on a CPU the workspace should stay near the caches.
WORKSPACE, WORKSPACE_OF_CPU = 256 << 20, 64 << 20


@dataclass(frozen=True)
class Settings:
    """The settings of `use_backend`: a backend's name, or None for the first willing one; the workspace in bytes, or None for the
    device's default; and ε."""

    backend: str | None
    workspace: int | None = None
    skip_below: float = 0.0

    def workspace_on(self, device: torch.device) -> int:
        return self.workspace or (WORKSPACE_OF_CPU if device.type == "cpu" else WORKSPACE)


class _Local(threading.local):
    # Not a ContextVar: torch.compile traces and guards a thread-local, so that compiled code follows use_backend too. Not an
    # attribute of the class: Dynamo of torch 2.11 would read that one instead.
    def __init__(self) -> None:
        self.settings: Settings | None = None


_local = _Local()
_usual = Settings(os.environ.get("JESSL_BACKEND") or None)


def settings() -> Settings:
    """The settings in force here: of the innermost `use_backend`, else of `set_backend`, else of the environment variable
    JESSL_BACKEND at import."""
    if _local.settings is not None:
        return _local.settings
    if _usual.backend is not None and _usual.backend not in BACKEND_NAMES:
        fail(
            "environment", "JESSL_BACKEND", repr(_usual.backend), f"must be one of {', '.join(BACKEND_NAMES)}, or unset"
        )
    return _usual


class _Block(contextlib.ContextDecorator):
    """The block that `use_backend` returns. A block that is dropped before it was entered has set nothing, and warns."""

    def __init__(self, name: str | None, workspace: int | None, skip_below: float | None):
        self._asked = name, workspace, skip_below
        self._before: list[Settings | None] = []
        self._entered = False

    def __enter__(self) -> None:
        name, workspace, skip_below = self._asked
        outer = settings()
        self._entered = True
        self._before.append(_local.settings)
        kept = outer.skip_below if skip_below is None else skip_below
        _local.settings = Settings(name or outer.backend, workspace or outer.workspace, kept)

    def __exit__(self, *_: object) -> None:
        _local.settings = self._before.pop()

    def __del__(self) -> None:
        if not self._entered:
            advice = "write `with jk.use_backend(…):`, or call jk.set_backend(…), which holds for good"
            warnings.warn(
                f"use_backend was called, and sets nothing outside of a with statement: {advice}", stacklevel=2
            )


def use_backend(
    name: BackendName | None = None, *, workspace: int | None = None, skip_below: float | None = None
) -> _Block:
    """Within the block this backend computes. There is no fallback from a backend that was requested by name.

    name       "cpu", "triton", "cuda", "chunked" or "reference"; None keeps the choice in force
    workspace  bytes a backend may use beyond inputs, outputs and a few vectors (default 64 MiB on a CPU, 256 MiB on a GPU)
    skip_below ε, 0 <= ε < 1 (default 0: every pair counts): a backend may leave out pairs that are together at most a share ε
               of the Σ_j e^{s_ij} of their row, and of their column if columns are reduced

    An argument of None keeps the setting outside the block. A backward pass uses the settings of its forward pass; a forward
    that activation checkpointing repeats uses the settings in force then. The block holds for the current thread.

    With skip_below a log-sum-exp is low by at most −log(1 − ε) ≈ ε, and the weights p_ij = e^{s_ij − row_i} of its gradient are
    off by at most 2ε, summed over the row; with an anchor by at most 2ε of the weight of the row's negatives, so that a
    converged batch keeps its gradient. Rounding comes on top. "cpu" leaves out tiles of up to 192 × 192 pairs, and sorts points
    so that tiles are compact. That pays if most pairs hardly count: a bandwidth or temperature that is small beside the
    distances, and points in clusters. The other backends compute all pairs, and so do sums of softplus and top-k.

    Raises ValueError if there is no such backend, the workspace is not positive or ε is out of range; TypeError if they are of
    another type.

    >>> with jk.use_backend("reference"):
    ...     total = jk.uniformity(z)
    >>> with jk.use_backend(skip_below=1e-6):
    ...     entropy = jk.kde_entropy(z, bandwidth=0.05)
    """
    return _Block(*_checked("use_backend", name, workspace, skip_below))


def set_backend(name: BackendName | None = None, *, workspace: int | None = None, skip_below: float = 0.0) -> None:
    """This backend computes from here on, in all threads, outside of blocks of `use_backend`: for notebooks, and for scripts
    without a place for a block.

    Arguments as in `use_backend`; without any, the defaults return. This setting outranks JESSL_BACKEND.

    Raises ValueError if there is no such backend, the workspace is not positive or ε is out of range; TypeError if they are of
    another type.

    >>> jk.set_backend("chunked", workspace=1 << 20)
    >>> jk.set_backend()
    """
    global _usual
    chosen, workspace, share = _checked("set_backend", name, workspace, skip_below)
    _usual = Settings(chosen, workspace, share or 0.0)


def _checked(
    function: str, name: str | None, workspace: int | None, skip_below: float | None
) -> tuple[str | None, int | None, float | None]:
    if name is not None and not isinstance(name, str):
        wrong_type(function, "name", name, "must be a backend's name or None")
    if name is not None and name not in BACKEND_NAMES:
        fail(function, "name", repr(name), f"must be one of {', '.join(BACKEND_NAMES)}")
    if workspace is not None:
        workspace = integer(function, "workspace", workspace, "must be an int, in bytes")
    if workspace is not None and workspace <= 0:
        fail(function, "workspace", workspace, "must be > 0 (bytes)")
    if skip_below is None:
        return name, workspace, None
    skip_below = number(function, "skip_below", skip_below)
    if not 0 <= skip_below < 1:
        fail(function, "skip_below", skip_below, "must be >= 0 and < 1 (the share of a sum that may be left out)")
    return name, workspace, skip_below


def refusals(problem: Score | RowProblem, *ops: str) -> dict[str, list[str]]:
    """Every backend's reasons to decline sums of these words over a problem, by device, and then in order of preference."""
    return {name: _refusal(name, problem, *ops) for name in BACKENDS}


def _refusal(name: str, problem: Score | RowProblem, *ops: str) -> list[str]:
    forced = settings().backend
    if forced not in (None, name):
        return [f"left out by use_backend, set_backend or JESSL_BACKEND, which ask for {forced}"]
    reasons = [reason for op in ops for reason in BACKENDS[name].declines(problem, op)]
    if name == cpu.NAME and forced is None:
        reasons += cpu.outrun(problem, *ops)
    return list(dict.fromkeys(reasons))


def select(function: str, problem: Score | RowProblem, *ops: str) -> str:
    """The name of the backend that will compute this problem. NotImplementedError quotes every refusal, or that of the requested
    backend."""
    for name in BACKENDS:
        if not _refusal(name, problem, *ops):
            return name
    dtype = str(problem.input_dtype).removeprefix("torch.")
    what = f"x ({problem.N}, {problem.D}) {dtype}, device {problem.device}"
    forced = settings().backend
    if forced is not None:
        why = "; ".join(_refusal(forced, problem, *ops))
        asked = f"{forced}, for which use_backend, set_backend or JESSL_BACKEND asks"
        raise NotImplementedError(f"{asked}, cannot run {function} on {what}: {why}")
    quoted = " · ".join(f"{name}: {'; '.join(reasons)}" for name, reasons in refusals(problem, *ops).items())
    raise NotImplementedError(f"no backend can run {function} on {what}\n    {quoted}")


# Value and gradient at 8,192 rows of 128 dimensions: "ours without C++" of `make report REPORT_ARGS="--rows 8192 --dim 128"`.
INSTEAD = "chunked computes instead, 2 to 7 times slower"
_warned = False


def warn_without_core(problem: Score | RowProblem) -> None:
    """Say once in a process that CPU tensors are computed without the extension, unless somebody asked for that by name."""
    global _warned
    if _warned or problem.device.type != "cpu" or settings().backend is not None:
        return
    _warned = True
    told = f"jessl_kernels: the C++ extension is missing, {INSTEAD}; `python -m jessl_kernels` says why"
    warnings.warn(told, UserWarning, stacklevel=_outside())


def _outside() -> int:
    """The `stacklevel` for the caller of this function that points at the code that called the package."""
    package, level, frame = __name__.partition(".")[0], 1, inspect.currentframe()
    frame = frame.f_back if frame is not None else None
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in (package, "torch"):
        level, frame = level + 1, frame.f_back
    return level


@dataclass(frozen=True, repr=False)
class BackendReport:
    """The backends of this installation, as `jk.backends()` returns them. Prints as a table, at the prompt too."""

    computing: dict[str, str]
    native: str
    nvcc: str
    forced: str | None

    def __str__(self) -> str:
        lines = [f"{name:<10} {what}" for name, what in self.computing.items()]
        lines += [f"{'native':<10} {self.native}", f"{'nvcc':<10} {self.nvcc}"]
        if self.forced is not None:
            lines.append(f"forced: {self.forced}, by use_backend, set_backend or JESSL_BACKEND")
        return "\n".join(lines)

    __repr__ = __str__


def backends() -> BackendReport:
    """The available backends and, for absent ones, the reason.

    Raises ValueError if JESSL_BACKEND or JESSL_SIMD names something unavailable.

    >>> jk.backends()
    cpu        available: C++, tiles in cache, CPU tensors
    triton     available: Triton, fused tiles or kernels around the library's products, CUDA tensors
    cuda       available: CUDA C++, CUDA tensors
    chunked    available: pure torch, strips of rows, any device
    reference  available: pure torch, the matrix form, any device; only when asked for by name
    native     built: compiler gcc 12.2.0, …, simd_cpu portable avx2 avx512, …, simd_used avx512
    nvcc       built: toolkit 13.0, architectures 7.5 8.0+PTX 8.6 9.0 10.0 12.0, compiler gcc 12.2.0
    """
    native = native_status()
    return BackendReport(
        computing={name: _state(module) for name, module in BACKENDS.items()},
        native=_built(native) + (f", simd_used {cpu.instruction_set()}" if native.available else ""),
        nvcc=_built(cuda_status()),
        forced=settings().backend,
    )


def _built(extension: NativeStatus) -> str:
    what = ", ".join(f"{key} {value}" for key, value in extension.info.items())
    return f"built: {what}" if extension.available else f"missing: {extension.reason}"


def _state(module: Backend) -> str:
    if module is cpu and cpu.MISSING:  # why stands in the line of the extension
        return f"missing: {INSTEAD}"
    if module.MISSING:
        return f"missing: {module.MISSING}"
    if module in (triton, cuda) and not torch.cuda.is_available():
        return f"installed, no CUDA device: {module.DESCRIPTION}"
    return f"available: {module.DESCRIPTION}"
