"""Addresses beyond 2³¹ elements, by execution: `far` runs in its own processes, because the interpreter is chosen at import."""

import mmap
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")


def promised() -> bool:
    """Whether this system promises more memory than it has."""
    try:
        mmap.mmap(-1, 2**39, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000).close()  # as `far` does
    except (OSError, AttributeError):
        return False
    return True


pytestmark = pytest.mark.skipif(not promised(), reason="this system promises no more memory than it has")

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "jessl_kernels" / "triton"


def run(*arguments: str) -> list[str]:
    command = [sys.executable, "-m", "tests.gpu.far", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_tiles_beyond_2_to_the_31_elements_come_out_as_at_the_beginning():
    assert len(run()) == 32


@pytest.mark.nightly
def test_each_address_of_64_bits_is_needed_and_a_shorter_one_is_noticed():
    widened = sum(len(re.findall(r"\.to\(tl\.int64\)", path.read_text())) for path in KERNELS.glob("*.py"))
    found = run("--planted")
    assert len(found) == widened > 0
    assert [line for line in found if not line.startswith("noticed")] == []
