"""What setup.py and the import say to somebody whose environment lacks something."""

import fcntl
import importlib.util
import os
import pty
import re
import subprocess
import sys
import termios
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPENDENCY = re.search(r'"torch>=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BUILD = ["build_ext", "--build-lib=lib", "--build-temp=temp"]


@pytest.fixture
def setup_py(tmp_path):
    """Run a command of setup.py on a copy of what it reads, with these distributions of torch in the environment's folders.

    Returns (what a terminal shows, what pip hides).
    """

    def run(*command, torch=(), terminal=True, **environment):
        for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "jessl_kernels", "csrc"):
            if not (tmp_path / name).exists():
                (tmp_path / name).symlink_to(ROOT / name)
        folder = tmp_path / "site-packages"
        for version in torch:
            (folder / f"torch-{version}.dist-info").mkdir(parents=True)
            (folder / f"torch-{version}.dist-info" / "METADATA").write_text(f"Name: torch\nVersion: {version}\n")
        code = textwrap.dedent(f"""
            import runpy, sys, sysconfig
            usual = sysconfig.get_path
            sysconfig.get_path = lambda name, *rest, **more: (
                {str(folder)!r} if name in ("purelib", "platlib") else usual(name, *rest, **more)
            )
            sys.argv = ["setup.py", *{command!r}]
            runpy.run_path("setup.py", run_name="__main__")
        """)
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # without a terminal, until it is given one
            preexec_fn=(lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)) if terminal else None,
        )
        hidden = process.communicate()[0]
        assert process.returncode == 0, hidden
        os.set_blocking(ours, False)
        try:
            shown = os.read(ours, 10_000).decode()
        except BlockingIOError:
            shown = ""
        finally:
            os.close(ours)
            os.close(theirs)
        return shown, hidden

    return run


def test_an_older_torch_is_named_before_pip_replaces_it(setup_py):
    shown, _ = setup_py("dist_info", torch=["2.6.0"])
    assert shown.count("jessl_kernels needs torch>=2.11; this environment has torch 2.6.0. pip now replaces it") == 1


@pytest.mark.parametrize("version", ["2.11.0", "2.13.0+cpu", "2.14.0a0+git1234567"])
def test_a_torch_that_is_new_enough_is_not_spoken_of(setup_py, version):
    shown, hidden = setup_py("dist_info", torch=[version])
    assert "torch" not in shown
    assert "needs torch" not in hidden


def test_an_install_without_a_compiler_says_once_what_it_costs(setup_py):
    shown, hidden = setup_py(*BUILD, CXX="/nonexistent")
    assert shown.count("jessl_kernels installs without its compiled core: no C++ compiler found") == 1
    assert shown.count("2 to 7 times as long") == 1
    assert "times as long" not in hidden


def test_without_a_terminal_the_log_says_it(setup_py):
    shown, hidden = setup_py(*BUILD, CXX="/nonexistent", terminal=False)
    assert shown == ""
    assert hidden.count("2 to 7 times as long") == 1


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
