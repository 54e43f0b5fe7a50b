"""Arrays from .npy and .npz files, and results that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np


def array(argument: str, path: str) -> np.ndarray:
    """The array of file.npy, whose rows stay on the disk until they are used, or of file.npz:name."""
    file, colon, name = path.rpartition(":")
    if not (colon and file.endswith(".npz")):
        file, name = path, ""
    if not name and not file.endswith(".npy"):
        raise ValueError(f"{argument} is {path}, must be file.npy or file.npz:name")
    try:
        opened = np.load(file, mmap_mode=None if name else "r", allow_pickle=False)
        if isinstance(opened, np.ndarray) == bool(name):  # a file may be of the other kind than its name says
            raise ValueError("it is one array alone" if name else "it is an archive of arrays")
        if isinstance(opened, np.ndarray):
            return opened
        with opened:
            if name not in opened.files:
                raise ValueError(f"its arrays are {', '.join(opened.files) or 'none'}")
            return opened[name]
    except OSError as error:
        raise ValueError(f"{argument} is {path}, which cannot be read: {error.strerror or error}") from None
    except Exception as error:  # of many kinds, by what is broken in the file
        why = " ".join(str(error).split()) or type(error).__name__
        if "pickle" in why:  # said of a text too, with advice to load it unsafely
            why = "it holds Python objects, or no array at all"
        raise ValueError(f"{argument} is {path}, which is not a readable array: {why}") from None


def target(option: str, path: str, taken: Collection[str]) -> Path:
    """A file that can be written, behind all symbolic links: in a folder that is there, and none of those that are `taken`."""
    try:
        file = Path(os.path.realpath(path))
        if not file.parent.is_dir():
            raise ValueError(f"{option} is {path}, must be in a folder that exists")
        if os.path.isdir(path):
            raise ValueError(f"{option} is {path}, which is a folder, must be a file")
        if (os.path.exists(path) or os.path.lexists(file)) and not os.path.isfile(path):
            raise ValueError(f"{option} is {path}, which is no regular file, must be one or must not be there")
        if file in {Path(os.path.realpath(other)) for other in taken}:
            raise ValueError(f"{option} is {path}, which it would overwrite: must be a file of its own")
        part = _part(file)
        part.touch()
        part.unlink()
    except OSError as error:
        raise ValueError(f"{option} is {path}, which cannot be written: {error.strerror or error}") from None
    return file


def write(contents: Mapping[Path, bytes]) -> None:
    """All files under other names, then each renamed: an interruption leaves no half of a file."""
    parts = {file: _part(file) for file in contents}
    try:
        for file, part in parts.items():
            part.write_bytes(contents[file])
        for file, part in parts.items():
            os.replace(part, file)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def _part(file: Path) -> Path:
    return file.with_name(f".{file.name}.{os.getpid()}.part")
