"""The extension reports its build; if it is absent, the package says why."""

import importlib.machinery
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jessl_kernels import native

ROOT = Path(__file__).resolve().parents[2]
SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]
LEVELS = {"portable", "avx2", "avx512", "neon"}


@pytest.fixture
def fresh_status():
    """native_status without its cache, before the test and after it."""
    native.native_status.cache_clear()
    yield native.native_status
    native.native_status.cache_clear()


@pytest.fixture
def without_extension(monkeypatch, tmp_path, fresh_status):
    """As if the extension were absent; yields a function that takes the build record (a text, or None for no file)."""
    monkeypatch.setitem(sys.modules, "jessl_kernels._native", None)  # None makes the import raise ModuleNotFoundError
    monkeypatch.setattr(native, "_RECORDS", tmp_path)

    def status(record):
        if record is not None:
            (tmp_path / "_native_status.json").write_text(record, encoding="utf-8")
        return fresh_status()

    return status


BINDINGS = """
#include <pybind11/pybind11.h>
PYBIND11_MODULE(_native, module) { module.def("answer", [] { return 42; }); }
"""


@pytest.fixture
def build(tmp_path):
    """Run setup.py's build of a core of one function; a function of the environment, returns (record, folder)."""
    for name in ("pyproject.toml", "README.md", "LICENSE", "jessl_kernels"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "setup.py", tmp_path)  # which resolves links, and looks for csrc beside itself
    (tmp_path / "csrc").mkdir()
    (tmp_path / "csrc" / "bindings.cpp").write_text(BINDINGS)

    def run(**environment):
        command = [sys.executable, "setup.py", "build_ext", "--build-lib=lib", "--build-temp=work"]
        clean = {k: v for k, v in os.environ.items() if k not in ("CXX", "CXXFLAGS", "LDFLAGS")} | {"JESSL_CUDA": "0"}
        done = subprocess.run(command, cwd=tmp_path, env={**clean, **environment}, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        folder = tmp_path / "lib" / "jessl_kernels"
        return json.loads((folder / "_native_status.json").read_text(encoding="utf-8")), folder

    return run


def has_compiler():
    return any(shutil.which(name) for name in ("c++", "g++", "clang++"))


def test_extension_is_loaded_where_a_compiler_is(fresh_status):
    if not (native._RECORDS / "_native_status.json").exists():
        pytest.skip("run from a tree that was never installed")
    if not has_compiler():
        pytest.skip("no C++ compiler on the path")
    assert fresh_status().available, fresh_status().reason


def test_build_info_says_compiler_standard_and_simd(fresh_status):
    status = fresh_status()
    if not status.available:
        pytest.skip(status.reason)
    info = status.info
    assert all(isinstance(key, str) and isinstance(value, str) and value for key, value in info.items())
    assert info["compiler"].split()[0] in {"gcc", "clang"}
    assert info["cxx_standard"].startswith("C++20")
    assert info["simd_build"] in LEVELS
    assert info["simd_cpu"].split()[0] == "portable"
    assert set(info["simd_cpu"].split()) <= LEVELS
    assert info["python"].split(".")[:2] == [str(part) for part in sys.version_info[:2]]


CPUINFO = Path("/proc/cpuinfo")


@pytest.mark.skipif(not CPUINFO.exists(), reason="no /proc/cpuinfo to compare with")
def test_simd_levels_agree_with_the_kernel(fresh_status):
    status = fresh_status()
    if not status.available:
        pytest.skip(status.reason)
    flags = next((line.split() for line in CPUINFO.read_text().splitlines() if line.startswith("flags")), None)
    if flags is None:
        pytest.skip("/proc/cpuinfo lists no x86 flags")
    levels = status.info["simd_cpu"].split()
    assert ("avx2" in levels) == ({"avx2", "fma"} <= set(flags))
    assert ("avx512" in levels) == ({"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= set(flags))


def test_status_is_computed_once(fresh_status):
    assert fresh_status() is fresh_status()


def test_recorded_reason_is_reported(without_extension):
    reason = "no C++ compiler found (tried c++, g++, clang++)"
    status = without_extension(json.dumps({"built": False, "reason": reason, "file": f"_native{SUFFIX}"}))
    assert status == native.NativeStatus(available=False, reason=reason, info={})


def test_the_kernels_have_a_record_of_their_own(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jessl_kernels._cuda", None)
    monkeypatch.setattr(native, "_RECORDS", tmp_path)
    record = {"built": False, "reason": "no CUDA toolkit was found", "file": f"_cuda{SUFFIX}"}
    (tmp_path / "_cuda_status.json").write_text(json.dumps(record), encoding="utf-8")
    assert native.cuda_status.__wrapped__() == native.NativeStatus(available=False, reason="no CUDA toolkit was found")


def test_library_of_another_python_is_named(without_extension):
    status = without_extension(json.dumps({"built": True, "reason": "", "file": "_native.cpython-27.so"}))
    assert not status.available
    assert "_native.cpython-27.so" in status.reason


def test_absent_record_says_how_to_build(without_extension):
    status = without_extension(None)
    assert not status.available
    assert "pip install" in status.reason


def test_a_source_folder_that_hides_the_installed_package_is_named(without_extension, monkeypatch, tmp_path):
    (tmp_path / "jessl_kernels").mkdir()
    (tmp_path / "jessl_kernels" / "_native_status.json").write_text("{}")
    monkeypatch.syspath_prepend(str(tmp_path))
    status = without_extension(None)
    assert f"installed at {tmp_path / 'jessl_kernels'}" in status.reason and "another folder" in status.reason


@pytest.mark.parametrize("record", ["", "{", "[]", "{}", '"text"', "null"])
def test_unreadable_record_is_reported_not_raised(without_extension, record):
    status = without_extension(record)
    assert not status.available
    assert "_native_status.json" in status.reason


@pytest.mark.parametrize("failure", [ImportError("undefined symbol: x"), RuntimeError("init failed")], ids=repr)
def test_extension_that_does_not_load_is_reported_not_raised(monkeypatch, fresh_status, failure):
    def refuse(name):
        raise failure

    monkeypatch.setattr(native.importlib, "import_module", refuse)
    status = fresh_status()
    assert not status.available
    assert str(failure) in status.reason


def test_core_includes_no_torch_header_and_python_only_in_the_bindings():
    for source in (ROOT / "csrc").rglob("*"):
        if source.suffix not in {".h", ".cpp", ".cu", ".cuh"}:
            continue
        includes = [line for line in source.read_text(encoding="utf-8").splitlines() if line.startswith("#include")]
        forbidden = ["torch/", "ATen/", "c10/"]
        forbidden += [] if source.name == "bindings.cpp" else ["pybind11", "Python.h"]
        assert not [line for line in includes if any(word in line for word in forbidden)], source


def test_build_without_compiler_succeeds_and_records_why(build):
    record, folder = build(CXX="/nonexistent")
    assert record["built"] is False
    assert "no C++ compiler found (CXX=/nonexistent)" in record["reason"]
    assert not list(folder.glob("_native*.so"))


def test_build_with_an_empty_path_names_the_compilers_it_tried(build, tmp_path):
    record, _ = build(PATH=str(tmp_path))
    assert "tried c++, g++, clang++" in record["reason"]


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler on the path")
def test_failed_build_quotes_the_compiler_and_drops_the_older_library(build):
    record, folder = build(CXXFLAGS="-O0")
    assert record == {"built": True, "reason": "", "file": f"_native{SUFFIX}"}
    assert load(folder / record["file"]).answer() == 42

    record, folder = build(CXXFLAGS="-O0", LDFLAGS="-lno_such_library")
    assert record["built"] is False
    assert "no_such_library" in record["reason"]
    assert not (folder / record["file"]).exists()


def load(library):
    spec = importlib.util.spec_from_file_location("_native", library)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
