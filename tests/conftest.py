"""Scratch memory of the C++ core holds NaN until it is written to (csrc/cpu/scratch.h), and Triton runs, in every test."""

import os

import pytest

from tests import executor

os.environ["JESSL_POISON"] = "1"  # read once, when the core first takes scratch memory


@pytest.fixture(autouse=True)
def _gpu_in_place(request):
    """For tests of the triton backend: a GPU, or what stands for one."""
    called = getattr(request.node, "callspec", None)
    if called is None or called.params.get("backend") != "triton":
        yield
        return
    with executor.gpu():
        yield
