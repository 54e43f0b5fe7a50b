"""An import under an older torch, and the text that setup.py makes of README.md."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPENDENCY = re.search(r'"torch>=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("version", ["2.6.0+cu124", "2.10.1", "1.13.0a0+git1234567"])
def test_import_under_an_older_torch_names_both_versions(tmp_path, version):
    (tmp_path / "torch.py").write_text(f"__version__ = {version!r}\n", encoding="utf-8")
    done = imported(tmp_path)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: jessl_kernels needs torch 2.11 or newer")
    assert f"torch {version} is installed" in last


def test_import_and_requirement_name_the_same_torch(tmp_path):
    oldest = DEPENDENCY[1]
    major, minor = oldest.split(".")
    (tmp_path / "torch.py").write_text(f"__version__ = '{major}.{int(minor) - 1}.9'\n", encoding="utf-8")
    assert f"needs torch {oldest} or newer" in imported(tmp_path).stderr
    (tmp_path / "torch.py").write_text(f"__version__ = '{oldest}.0a0+git1234567'\n", encoding="utf-8")
    assert "or newer" not in imported(tmp_path).stderr  # it goes on to what this torch does not have


def imported(folder):
    """`import jessl_kernels` where `folder` comes first."""
    path = os.pathsep.join([str(folder), str(ROOT)])
    command = [sys.executable, "-c", "import jessl_kernels"]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)


def test_readme_for_the_index_asks_for_no_file_of_the_repository():
    spec = importlib.util.spec_from_file_location("setup_of_the_package", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = module.readme_for_the_index()
    assert len(text) > 0.8 * len((ROOT / "README.md").read_text(encoding="utf-8"))
    assert re.findall(r"\]\((?!https?:)[^)]*\)|<img|<a |^!.*", text, re.MULTILINE) == []
