"""The CUDA kernels on a model of a GPU: `csrc/cuda`, compiled for the CPU with tests/native/cuda_model.h, in the place of the
compiled extension.

Tensors stay on the CPU, and the backend takes them for those of a GPU. JESSL_MODEL_FLAGS are further options of the compiler,
such as -fsanitize=address; JESSL_MODEL_SEED changes the order of threads and blocks.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest

from jessl_kernels import native
from jessl_kernels.backends import cuda as backend
from jessl_kernels.cuda import pairs
from tests import executor, placement

ROOT = Path(__file__).parents[1]
CSRC, CUDA, NATIVE = ROOT / "csrc", ROOT / "csrc" / "cuda", ROOT / "tests" / "native"
CACHE = ROOT / "build" / "cuda-model"
FLAGS = (
    "-std=c++20", "-O2", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror",
    "-DJESSL_CUDA_MODEL", '-DJESSL_CUDA_TOOLKIT="a model"', '-DJESSL_CUDA_ARCHITECTURES=""',
)  # fmt: skip


def compiler() -> str | None:
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), "g++"))), None)


def built(edited: Mapping[str, str] | None = None) -> Path:
    """The module of the kernels, compiled if it was not yet.

    edited  the text of some files of csrc/cuda, by name, instead of what they hold
    """
    edited = dict(edited or {})
    sources = [*sorted(CUDA.glob("*.cu")), *sorted(CUDA.glob("*.cpp")), NATIVE / "cuda_model.cpp"]
    flags = (*FLAGS, *shlex.split(os.environ.get("JESSL_MODEL_FLAGS", "")))
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(functools.partial(_object, edited=edited, flags=flags), sources))
    module = CACHE / _digest(objects) / "_cuda.so"
    if not module.exists():
        _run([*map(str, objects), *flags, "-shared"], module)
    return module


def _object(source: Path, edited: Mapping[str, str], flags: tuple[str, ...]) -> Path:
    texts = _with_headers(source, edited)
    made = CACHE / _digest((flags, texts)) / f"{source.name}.o"
    if not made.exists():
        overlay = made.parent / "cuda"
        overlay.mkdir(parents=True, exist_ok=True)
        for name, changed in edited.items():
            (overlay / name).write_text(changed)
        place = overlay / source.name if source.name in edited else source
        folders = [f"-I{folder}" for folder in (made.parent, CSRC, NATIVE)]
        foreign = [word for folder in (_pybind11(), sysconfig.get_path("include")) for word in ("-isystem", folder)]
        _run([*flags, *folders, *foreign, "-x", "c++", "-c", str(place)], made)
    return made


def _with_headers(source: Path, edited: Mapping[str, str]) -> dict[str, str]:
    """The text of a source and of all headers of ours that it includes."""
    texts: dict[str, str] = {}
    wanted = [source]
    while wanted:
        path = wanted.pop()
        if str(path) not in texts:
            text = edited[path.name] if path.parent == CUDA and path.name in edited else path.read_text()
            texts[str(path)] = text
            named = re.findall(r'^#include "(.+)"', text, re.MULTILINE)
            wanted += [place for name in named for place in (CSRC / name, NATIVE / name) if place.exists()]
    return texts


def _run(arguments: list[str], made: Path) -> None:
    """Compile to a file that is moved into place, so that nobody reads half of one."""
    made.parent.mkdir(parents=True, exist_ok=True)
    part = made.with_suffix(f".{os.getpid()}")
    done = subprocess.run([str(compiler()), *arguments, "-o", str(part)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{made.name} does not compile for the model:\n{done.stderr}")
    part.replace(made)


def _pybind11() -> str:
    import pybind11

    return pybind11.get_include()


def _digest(of: object) -> str:
    return hashlib.sha256(repr(of).encode()).hexdigest()[:24]


@functools.cache
def module() -> ModuleType:
    """The kernels on the model."""
    return loaded(built())


def loaded(path: Path) -> ModuleType:
    """The module of this file, under a name of its own: pybind11 gives a second module of a name out as the first."""
    spec = importlib.util.spec_from_file_location(f"model_{path.parent.name}._cuda", path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@contextlib.contextmanager
def gpu() -> Iterator[None]:
    """The cuda backend computes, on a GPU if there is one and the extension was built for it, else on the model."""
    if executor.REAL and not backend.MISSING:
        with placement.poisoned(warn_only=True), placement.Placed("cuda"):
            yield
    else:
        with model():
            yield


@contextlib.contextmanager
def model() -> Iterator[None]:
    """The cuda backend computes on the model, on CPU tensors; memory that nobody has written holds NaN."""
    if compiler() is None or importlib.util.find_spec("pybind11") is None:
        pytest.skip("the model of a GPU needs a C++ compiler and pybind11")
    with (
        placement.poisoned(warn_only=True),
        mock.patch.object(backend, "MISSING", ""),
        mock.patch.object(backend, "DEVICE", "cpu"),
        mock.patch.object(native, "cuda", module),
    ):
        yield


@contextlib.contextmanager
def idle() -> Iterator[ctypes.c_uint64]:
    """Launches are counted, in the number that this yields, and do nothing."""
    library = ctypes.CDLL(module().__file__)
    launches, idle = (
        kind.in_dll(library, f"jessl_model_{name}")
        for kind, name in ((ctypes.c_uint64, "launches"), (ctypes.c_int, "idle"))
    )
    launches.value, idle.value = 0, 1
    try:
        yield launches
    finally:
        idle.value = 0


@contextlib.contextmanager
def by_strips() -> Iterator[None]:
    """The cuda backend goes by strips, however small a problem is."""
    with mock.patch.multiple(pairs, FEW_DIMENSIONS=0, SMALL_BATCH=0):
        yield
