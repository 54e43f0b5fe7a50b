"""Builds jessl_kernels._native with ninja; an extension that cannot be built never stops the install.

The package computes the same without the extension, only slower. So a failure here is told once to whoever installs, and written
to jessl_kernels/_native_status.json. jessl_kernels/native.py reads it, and `jk.backends()` names the missing part.
Nothing here imports torch: the native core is compiled without torch headers and serves every version of torch.

CXX, CXXFLAGS and LDFLAGS are honoured. `python setup.py build_ext --inplace` rebuilds only what changed.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from packaging.requirements import Requirement
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.dist_info import dist_info

ROOT = Path(__file__).resolve().parent
RECORD = "_native_status.json"
COMPILERS = ("c++", "g++", "clang++")
WITHOUT_CORE = "Losses of CPU tensors then take 2 to 7 times as long; CUDA tensors do not use the core."

# Never -march=native: one library serves every processor of its architecture, and wider instructions are chosen at run
# time. Never -ffast-math: NaN and infinities are results here, and its start-up code changes rounding for the process.
CXXFLAGS = [
    "-std=c++20",
    "-O3",
    "-ffp-contract=fast",
    "-pthread",
    "-fPIC",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-DNDEBUG",
]
SHARED = ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]


class NotBuilt(Exception):
    """The extension could not be built; the message is the reason that a user reads."""


class BuildNative(build_ext):
    """Compile with ninja and leave a record of the outcome beside the library, or where it would have been."""

    def build_extension(self, ext: Extension) -> None:
        library = Path(self.get_ext_fullpath(ext.name)).resolve()
        library.parent.mkdir(parents=True, exist_ok=True)
        library.unlink(missing_ok=True)  # an older library must not be packed beside the record of a failure
        reason = ""
        try:
            compile_with_ninja(ext, library, Path(self.build_temp).resolve())
        except (NotBuilt, OSError) as failure:  # OSError: the ninja package without its program
            reason = str(failure)
            tell(f"jessl_kernels installs without its compiled core: {reason}. {WITHOUT_CORE}")
        record = {"built": not reason, "reason": reason, "file": library.name}
        library.with_name(RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    def copy_extensions_to_source(self) -> None:
        """Copy the record to the source tree, which an editable install imports, and remove a stale library from it."""
        for ext in self.extensions:
            in_source = Path(self.get_ext_fullpath(ext.name))
            in_source.unlink(missing_ok=True)
            shutil.copyfile(Path(self.build_lib, in_source.parent.name, RECORD), in_source.with_name(RECORD))
        super().copy_extensions_to_source()


class TellOfOlderTorch(dist_info):
    """Make the metadata, and say which torch pip is about to replace: pip asks for them before it fetches a dependency."""

    def run(self) -> None:
        super().run()
        texts = self.distribution.install_requires  # pyright: ignore[reportAttributeAccessIssue] # set by setuptools
        needed = next(r for r in map(Requirement, texts) if r.name == "torch")
        # A build that pip isolates does not see the environment's packages on sys.path; their folders are still known.
        folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
        for torch in importlib.metadata.distributions(name="torch", path=folders):
            if not needed.specifier.contains(torch.version, prereleases=True):
                tell(
                    f"jessl_kernels needs {needed}; this environment has torch {torch.version}. pip now replaces it, by a "
                    "download of up to several GB, unless it was given --no-deps. Control-C keeps the torch that is here."
                )
                break


def tell(text: str) -> None:
    """Show `text` to the person who installs: to the terminal itself, since pip without -v hides what a build prints."""
    try:
        with open("/dev/tty", "w", encoding="utf-8") as terminal:
            terminal.write(f"\r\n{text}\r\n")  # pip draws a spinner in the line where the cursor is
    except OSError:  # no terminal: a script, a notebook, CI
        print(text, file=sys.stderr)


def readme_for_the_index() -> str:
    """README.md without what a package index cannot show: pictures of the repository go, links into it become their text."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"^!\[[^]]*\]\((?!https?:)[^)]*\)\n+", "", text, flags=re.MULTILINE)
    return re.sub(r"\[([^]]+)\]\((?!https?:)[^)]*\)", r"\1", text)


def compile_with_ninja(ext: Extension, library: Path, work: Path) -> None:
    """Write `work`/build.ninja for the sources of `ext`, run it, and put the result at `library`."""
    compiler = find_compiler()
    try:
        import ninja
        import pybind11
    except ImportError as missing:
        raise NotBuilt(f"a build requirement is not installed: {missing}") from missing

    headers = [f"-I{ROOT / 'csrc'}", "-isystem", pybind11.get_include(), "-isystem", sysconfig.get_path("include")]
    macros = [f"-D{name}={value}" for name, value in ext.define_macros]
    flags = [*CXXFLAGS, *macros, *headers, *shlex.split(os.environ.get("CXXFLAGS", ""))]
    link_flags = shlex.split(os.environ.get("LDFLAGS", ""))
    objects = {f"{Path(source).stem}.o": str(ROOT / source) for source in ext.sources}

    def command(*words: str) -> str:
        return shlex.join(words).replace("$", "$$")

    rules = [
        "rule compile",
        f"  command = {command(*compiler, *flags)} -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        f"  command = {command(*compiler, *SHARED)} $in -o $out {command(*link_flags)}",
        *(f"build {object_file}: compile {escaped(source)}" for object_file, source in objects.items()),
        f"build {library.name}: link {' '.join(objects)}",
    ]
    work.mkdir(parents=True, exist_ok=True)
    (work / "build.ninja").write_text("\n".join(rules) + "\n", encoding="utf-8")
    run = subprocess.run(
        [os.path.join(ninja.BIN_DIR, "ninja"), "-C", str(work)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "LC_ALL": "C"},  # first_errors looks for English words
    )
    print(run.stdout)
    if run.returncode != 0:
        raise NotBuilt(f"{shlex.join(compiler)} failed: {first_errors(run.stdout)}")
    shutil.copy2(work / library.name, library)


def escaped(path: str) -> str:
    """A path, escaped for ninja outside of a command."""
    return re.sub(r"([$ :])", r"$\1", path)


def find_compiler() -> list[str]:
    """The command of CXX, else the first of COMPILERS on the path. If CXX is set, nothing else is tried."""
    wish = shlex.split(os.environ.get("CXX", ""))
    for command in [wish] if wish else [[name] for name in COMPILERS]:
        if found := shutil.which(command[0]):
            return [os.path.abspath(found), *command[1:]]
    tried = f"CXX={wish[0]}" if wish else f"tried {', '.join(COMPILERS)}"
    raise NotBuilt(f"no C++ compiler found ({tried}); install one, then install jessl_kernels again")


def first_errors(output: str) -> str:
    """The compiler's first errors, short enough for one line of a report."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = [line for line in lines if re.search("error|cannot find|undefined reference", line, re.IGNORECASE)]
    return " | ".join(told[:2] or lines[-2:])


if __name__ == "__main__":
    setup(
        long_description=readme_for_the_index(),
        long_description_content_type="text/markdown",
        ext_modules=[
            Extension(
                "jessl_kernels._native",
                sources=sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*.cpp")),
                depends=sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*.h")),
                define_macros=[("JESSL_WITH_CUDA", "0")],  # csrc has no device code to compile yet
                optional=True,
            )
        ],
        cmdclass={"build_ext": BuildNative, "dist_info": TellOfOlderTorch},
    )
