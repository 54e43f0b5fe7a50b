"""Addresses beyond 2³¹ elements, by execution: `far.py`, in processes of its own, since the interpreter is chosen at import."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="more memory is promised than there is")

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "jessl_kernels" / "triton"


def run(*arguments: str) -> list[str]:
    command = [sys.executable, "-m", "tests.gpu.far", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_tiles_beyond_2_to_the_31_elements_come_out_as_at_the_beginning():
    assert len(run()) == 18


def test_each_address_of_64_bits_is_needed_and_a_shorter_one_is_noticed():
    widened = sum(len(re.findall(r"\.to\(tl\.int64\)", path.read_text())) for path in KERNELS.glob("*.py"))
    found = run("--planted")
    assert len(found) == widened > 0
    assert [line for line in found if not line.startswith("noticed")] == []
