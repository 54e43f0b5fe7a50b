"""Which room may import which, and where losses may be named."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "jessl_kernels"
CSRC = PACKAGE.parent / "csrc"
# Rooms, and the rooms of the package that they must not import.
FORBIDDEN = {
    "functional": ("ops", "backends", "triton", "cuda", "nn"),
    "pairwise": ("triton", "cuda", "functional", "nn"),
    "ops": ("pairwise", "functional", "triton", "cuda", "nn"),
    "backends": ("ops", "pairwise", "functional", "nn"),
    "triton": ("ops", "pairwise", "functional", "nn", "cuda"),
    "cuda": ("ops", "pairwise", "functional", "nn", "triton"),
    "mi": ("ops", "backends", "triton", "cuda", "nn", "entropy", "evaluate", "er"),
    "entropy": ("ops", "backends", "triton", "cuda", "nn", "mi", "er", "evaluate"),
    "evaluate": ("ops", "backends", "triton", "cuda", "nn", "mi", "er", "entropy"),
    "er": ("ops", "backends", "triton", "cuda", "nn", "problem", "entropy", "evaluate"),
    "problem": ("ops", "backends", "pairwise", "functional", "triton", "cuda", "nn"),
}
CPP = (".h", ".cpp", ".cuh", ".cu")
LOSS = re.compile(r"paired|labelled|nt_xent|sup_con|clip_loss|siglip|info_nce|\bdcl\b", re.IGNORECASE)


def imported(path: Path):
    """The modules of the package that a file imports, as paths from the package on."""
    here = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = here[: len(here) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            for name in names:
                yield (*above, *name.split("."))


@pytest.mark.parametrize("room", FORBIDDEN)
def test_no_room_imports_one_above_it(room):
    found = [
        f"{path.name} imports {'.'.join(module)}"
        for path in sorted((PACKAGE / room).rglob("*.py"))
        for module in imported(path)
        if module and module[0] in FORBIDDEN[room]
    ]
    if room == "backends":  # backends/triton.py calls the one backend that has a room of its own
        found = [line for line in found if not line.startswith("triton.py")]
    assert found == []


def test_losses_are_named_above_the_operators_alone():
    files = [
        path for room in ("ops", "backends", "triton", "cuda", "problem") for path in (PACKAGE / room).rglob("*.py")
    ]
    files += [path for path in CSRC.rglob("*") if path.suffix in CPP]
    assert len(files) > 60
    assert [f"{path.name}: {m}" for path in files for m in LOSS.findall(path.read_text(encoding="utf-8"))] == []


def test_no_file_is_longer_than_400_lines():
    files = [
        path
        for folder in (PACKAGE, CSRC, PACKAGE.parent / "tests", PACKAGE.parent / "benchmarks")
        for path in folder.rglob("*")
    ]
    long = [path.name for path in files if path.suffix in (".py", *CPP) and len(path.read_text().splitlines()) > 400]
    assert long == []


def test_tests_import_nothing_of_the_benchmarks():
    tests = sorted((PACKAGE.parent / "tests").rglob("*.py"))
    assert [
        path.name for path in tests if re.search(r"^\s*(from|import) benchmarks", path.read_text(), re.MULTILINE)
    ] == []
