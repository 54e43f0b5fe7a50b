"""Every public name stands where each of its kind must: in the tables of the tests and on the pages of the API."""

import importlib
import inspect
import re
from pathlib import Path

import jessl_kernels as jk
from tests.unit.test_errors import FUNCTIONS
from tests.unit.test_modules import MODULES

# Tested for bad input elsewhere: these take lists of pieces, sums, encoders, files, or no tensors (test_row_loss_errors.py, …).
OTHERWISE = {
    "row_loss",
    "row_sums",
    "row_grads",
    "cached_backward",
    "explain",
    "backends",
    "set_backend",
    "use_backend",
    "entropy_of",
    "evaluate",
}
# Rooms whose names are shown beside those of the package; their functions have the names of two rooms.
ROOMS = [importlib.import_module(f"jessl_kernels.{name}") for name in ("entropy", "er", "evaluate")]
API = "".join(page.read_text() for page in (Path(__file__).parents[2] / "docs" / "api").glob("*.md"))


def public(module) -> set[str]:
    return {name for name in module.__all__ if not inspect.ismodule(getattr(module, name))}


def differences(names: set[str], listed: set[str]) -> tuple[list[str], list[str]]:
    """Names that are not listed, and listed names that are none."""
    return sorted(names - listed), sorted(listed - names)


def test_every_function_is_tried_with_bad_input():
    functions = {name for name in public(jk) if not inspect.isclass(getattr(jk, name))}
    missing, unknown = differences(functions - OTHERWISE, set(FUNCTIONS))
    assert not missing and not unknown, (
        f"FUNCTIONS of test_errors.py lacks {missing}, and has {unknown} beyond the package"
    )


def test_every_module_is_compared_with_its_function():
    missing, unknown = differences(public(jk.nn) - {"Queue"}, {name.partition("-")[0] for name in MODULES})
    assert not missing and not unknown, f"MODULES of test_modules.py lacks {missing}, and has {unknown} beyond jk.nn"


def test_every_name_has_its_page():
    shown = {path.rpartition(".")[2] for path in re.findall(r"^::: (\S+)", API, re.MULTILINE)}
    module = jk.mi.bounds
    bounds = {name for name, of in vars(module).items() if getattr(of, "__module__", "") == module.__name__}
    helpers = {name for name in bounds if name.startswith("_")} | {"log_mean_of_exp"}
    rooms = set().union(*map(public, ROOMS))
    names = public(jk) | public(jk.nn) | public(jk.mi) | rooms | (bounds - helpers) | {"clamp", "student"}
    missing, unknown = differences(names, shown)
    assert not missing and not unknown, (
        f"docs/api lacks a line '::: …' of {missing}, and has {unknown} beyond the package"
    )
