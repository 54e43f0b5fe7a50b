"""The kernels of a mutated source in place of the real ones."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from triton.runtime.jit import JITFunction

from . import sources

NAME = "jessl_kernels.triton"


def plant(folder: Path, module: str, source: str) -> None:
    """From here on, and for good, this is the source of that module; the files that Triton reads it from lie in the folder.

    Every module of jit functions is executed again, under its own name, so that all that import from it get the mutant.
    """
    names = [f"{NAME}.{name}" for name in sources.modules()]
    before = {name: importlib.import_module(name) for name in names}
    users = [m for name, m in sys.modules.items() if name.startswith((NAME, "tests.")) and name not in names and m]
    for name in sources.modules():
        path = folder / f"{name}.py"
        path.write_text(source if name == module else sources.text_of(name))
        _execute(f"{NAME}.{name}", path)
    for user in users:
        for word, value in list(vars(user).items()):
            setattr(user, word, _now(value, before))
            if isinstance(value, JITFunction):
                value.hash = None  # of a test's own kernel, which changes with what it calls


def _execute(name: str, path: Path) -> None:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)


def _now(value: object, before: dict[str, ModuleType]) -> object:
    """What a name of another module stands for now: the module, or the function, executed again."""
    if isinstance(value, ModuleType) and before.get(value.__name__) is value:
        return sys.modules[value.__name__]
    if isinstance(value, JITFunction) and value.fn.__module__ in before:
        return getattr(sys.modules[value.fn.__module__], value.fn.__name__)
    return value
