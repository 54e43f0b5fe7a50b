"""What setup.py makes of a CUDA toolkit, or says where there is none; the C++ core is built in any case.

Stand-ins for nvcc and the C++ compiler, shell scripts, write down how they are called.
"""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from setuptools import Extension

from tests.gpu.cuda_code import setup_py

ROOT = Path(__file__).resolve().parents[2]
setup = setup_py()

NVCC = """#!/bin/sh
case "$*" in
  --version) echo "{version}" ;;
  --list-gpu-code) echo sm_75; echo sm_80; echo sm_90 ;;
  "--dryrun any.cu") echo "#$ TOP={top}" ;;
  *) echo "nvcc $*" >> {log}; {compile} ;;
esac
"""
CXX = """#!/bin/sh
echo "c++ $*" >> {log}
while [ "$1" != -o ]; do shift; done
: > "$2"
: > "$2.d"
"""
MAKE_OUTPUT = 'while [ "$1" != -o ]; do shift; done; : > "$2"; : > "$2.d"'
MISSING_HEADER = 'echo "strips.cu:3:10: fatal error: cuda_fp16.h: No such file or directory"; exit 1'
NEW_COMPILER = (
    'echo "host_config.h:137:2: error: #error -- unsupported GNU version! gcc versions later than 15"; exit 1'
)


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def toolkit(tmp_path, monkeypatch):
    """A folder with a stand-in for nvcc, which CUDA_HOME names, and a stand-in for the compiler, which CXX names; a function."""
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    monkeypatch.delenv("JESSL_CUDA", raising=False)

    def make(release="13.0", compile=MAKE_OUTPUT, folder="toolkit", version=None):
        home, log = tmp_path / folder, tmp_path / "log"
        version = version or f"Cuda compilation tools, release {release}, V{release}.1"
        written(home / "bin" / "nvcc", NVCC.format(version=version, top=home, log=log, compile=compile))
        (home / "lib").mkdir(exist_ok=True)
        monkeypatch.setenv("CUDA_HOME", str(home))
        monkeypatch.setenv("CXX", str(written(tmp_path / "c++", CXX.format(log=log))))
        return home

    return make


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No CUDA_HOME, nothing on the path, no packages; yields the folder of the packages."""
    for name in ("CUDA_HOME", "JESSL_CUDA", "TORCH_CUDA_ARCH_LIST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / "site-packages"))
    return tmp_path / "site-packages"


@pytest.fixture
def compile_cuda(tmp_path):
    """Compile two sources with the stand-ins; returns (the record's entries, all calls of the stand-ins)."""

    def run():
        ext = Extension("jessl_kernels._cuda", sources=["csrc/cuda/bindings.cpp", "csrc/cuda/strips.cu"])
        for source in ext.sources:  # ninja asks for them alone
            written(tmp_path / source, "")
        ext.sources = [str(tmp_path / source) for source in ext.sources]
        made = setup.compile_cuda(ext, tmp_path / "_cuda.so", tmp_path / "work")
        return made, (tmp_path / "log").read_text(encoding="utf-8")

    return run


def reason(run, *arguments):
    with pytest.raises(setup.NotBuilt) as failure:
        run(*arguments)
    return str(failure.value)


def test_nvcc_is_looked_for_in_cuda_home_on_the_path_and_among_packages(nowhere, monkeypatch, tmp_path):
    packaged = written(nowhere / "nvidia" / "cu13" / "bin" / "nvcc", "")
    assert setup.find_nvcc() == str(packaged)
    on_the_path = written(tmp_path / "bin" / "nvcc", "")
    assert setup.find_nvcc() == str(on_the_path)
    home = written(tmp_path / "home" / "bin" / "nvcc", "")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "home"))
    assert setup.find_nvcc() == str(home)


def test_nothing_else_is_tried_where_cuda_home_is_wrong(toolkit, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(toolkit() / "bin"))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert f"CUDA_HOME is {tmp_path}, where no bin/nvcc is" in reason(setup.find_nvcc)


def test_without_a_toolkit_nothing_is_built_and_no_line_is_shown(nowhere, compile_cuda):
    with pytest.raises(setup.LeftOut, match="no CUDA toolkit was found"):
        compile_cuda()


def test_without_a_toolkit_that_was_asked_for_a_line_is_shown(nowhere, compile_cuda, monkeypatch):
    monkeypatch.setenv("JESSL_CUDA", "1")
    with pytest.raises(setup.NotBuilt, match="JESSL_CUDA is 1, but no CUDA toolkit was found") as failure:
        compile_cuda()
    assert not isinstance(failure.value, setup.LeftOut)


def test_a_toolkit_is_left_alone_if_asked(toolkit, compile_cuda, monkeypatch):
    toolkit()
    monkeypatch.setenv("JESSL_CUDA", "0")
    with pytest.raises(setup.LeftOut, match="JESSL_CUDA was 0"):
        compile_cuda()
    monkeypatch.setenv("JESSL_CUDA", "yes")
    assert "JESSL_CUDA is 'yes', must be 0 or 1" in reason(compile_cuda)


@pytest.mark.parametrize(
    ("toolkit_is", "told"),
    [
        ({"release": "11.8"}, "is of CUDA 11.8; 12.0 or later is needed"),
        ({"version": "a wrapper: no licence"}, "names no release of CUDA, but says: a wrapper: no licence"),
        ({"compile": MISSING_HEADER}, "failed: strips.cu:3:10: fatal error: cuda_fp16.h: No such file or directory"),
        ({"compile": NEW_COMPILER}, "unsupported GNU version! gcc versions later than 15"),
    ],
    ids=["old", "broken", "without a header", "older than the compiler"],
)
def test_a_toolkit_that_does_not_serve_is_named_in_one_line(toolkit, compile_cuda, toolkit_is, told):
    home = toolkit(**toolkit_is)
    line = reason(compile_cuda)
    assert told in line and str(home / "bin" / "nvcc") in line and "\n" not in line


def test_device_code_goes_to_nvcc_and_all_else_to_the_compiler(toolkit, compile_cuda, tmp_path):
    home = toolkit()
    _, calls = compile_cuda()
    by_nvcc, *by_compiler = sorted(calls.splitlines(), reverse=True)
    assert "strips.cu" in by_nvcc and f"-ccbin {tmp_path / 'c++'}" in by_nvcc and f"-I{ROOT / 'csrc'}" in by_nvcc
    assert len(by_compiler) == 2 and any("bindings.cpp" in call for call in by_compiler)
    link = next(call for call in by_compiler if "-shared" in call)
    assert f"-L{home}/lib -lcudart_static" in link and "exclude-libs" in link


def test_usual_architectures_are_those_that_the_toolkit_knows(toolkit, compile_cuda):
    toolkit()
    made, calls = compile_cuda()
    assert made == {"toolkit": "13.0", "architectures": "7.5 8.0+PTX 9.0"}
    codes = [word for word in calls.split() if word.startswith("-gencode")]
    assert codes == [
        "-gencode=arch=compute_75,code=sm_75",
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_80,code=compute_80",
        "-gencode=arch=compute_90,code=sm_90",
    ]


@pytest.mark.parametrize("asked", ["8.6;9.0a+PTX", "8.6 9.0a+PTX", " 8.6, 9.0a+PTX; "])
def test_torchs_list_of_architectures_is_followed(toolkit, monkeypatch, asked):
    toolkit()
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", asked)
    names = setup.architectures(setup.find_toolkit())
    assert names == ["8.6", "9.0a+PTX"]
    assert list(setup.code_for(names))[-1] == "-gencode=arch=compute_90a,code=compute_90a"


def test_a_name_that_is_no_architecture_is_named(toolkit, monkeypatch):
    toolkit()
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0;Hopper")
    told = reason(setup.architectures, setup.find_toolkit())
    assert told == "TORCH_CUDA_ARCH_LIST names 'Hopper'; it must be numbers such as 8.0;9.0+PTX, or unset"


@pytest.mark.parametrize(
    ("command", "program"),
    [(["/usr/bin/g++"], "/usr/bin/g++"), (["ccache", "g++", "-m64"], "g++")],
)
def test_nvcc_is_given_the_program_of_a_compilers_command(command, program):
    assert setup.host_of(command) == program


def test_the_core_is_built_where_the_kernels_are_not(toolkit, tmp_path):
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "jessl_kernels", "csrc"):
        (tmp_path / name).symlink_to(ROOT / name)
    toolkit(compile=MISSING_HEADER)
    command = [sys.executable, "setup.py", "build_ext", "--build-lib=lib", "--build-temp=temp"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, start_new_session=True)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "lib" / "jessl_kernels"
    core, kernels = (json.loads((folder / f"{name}_status.json").read_text()) for name in ("_native", "_cuda"))
    assert core["built"] and (folder / core["file"]).exists()
    assert not kernels["built"] and "cuda_fp16.h" in kernels["reason"] and not (folder / kernels["file"]).exists()
    assert done.stderr.count("jessl_kernels installs without its CUDA kernels: ") == 1
