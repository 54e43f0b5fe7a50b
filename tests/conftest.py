"""Scratch memory of the C++ core holds NaN until it is written to (csrc/cpu/scratch.h), and Triton runs, in every test."""

import os

import pytest

from tests import executor

os.environ["JESSL_POISON"] = "1"  # read once, when the core first takes scratch memory


def pytest_collection_modifyitems(config, items):
    """A launch takes the executor 50 ms: of the largest matrix of options it runs those that go another way through a kernel."""
    dropped = [item for item in items if _is_repeated(item)]
    config.hook.pytest_deselected(items=dropped)
    items[:] = [item for item in items if not _is_repeated(item)]


def _is_repeated(item) -> bool:
    called = getattr(item, "callspec", None)
    options = {} if called is None else called.params
    if options.get("backend") != "triton":
        return False
    if (
        item.originalname == "test_gradcheck_in_fp64"
    ):  # hundreds of calls each; the oracles have the same gradients in fp64
        return True
    matrix = item.originalname == "test_every_option_of_logsumexp"
    return matrix and (options["anchored"] or options["reduction"] == "sum")


@pytest.fixture(autouse=True)
def _gpu_in_place(request):
    """For tests of the triton backend: a GPU, or what stands for one."""
    called = getattr(request.node, "callspec", None)
    if called is None or called.params.get("backend") != "triton":
        yield
        return
    with executor.gpu():
        yield
