"""Builds two extensions with ninja: jessl_kernels._native, and jessl_kernels._cuda where a CUDA toolkit is.

An extension that cannot be built never stops the install, nor the other one. The package computes the same without it. So a
failure here is told once to whoever installs, and written to a record, such as jessl_kernels/_native_status.json.
jessl_kernels/native.py reads it, and `jk.backends()` names the missing part. Nothing here imports torch: the extensions are
compiled without torch headers and serve every version of torch. Nothing here asks for a GPU or a driver.

CXX, CXXFLAGS and LDFLAGS are honoured; for device code CUDA_HOME, TORCH_CUDA_ARCH_LIST and JESSL_CUDA (docs/cuda.md).
`python setup.py build_ext --inplace` rebuilds only what changed.
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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.dist_info import dist_info

ROOT = Path(__file__).resolve().parent
COMPILERS = ("c++", "g++", "clang++")
WITHOUT = {
    "_native": "without its compiled core: {}. Losses of CPU tensors then take 2 to 7 times as long; CUDA tensors do not "
    "use the core.",
    "_cuda": "without its CUDA kernels: {}. CUDA tensors are then left to Triton, or to plain torch.",
}

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

# Device code is compiled without fast arithmetic, for the reasons above.
NVCCFLAGS = [
    "-std=c++20",
    "-O3",
    "--expt-relaxed-constexpr",
    f"-I{ROOT / 'csrc'}",
    "-Xcompiler=-fPIC,-fvisibility=hidden,-Wall,-Wextra",
    "-DNDEBUG",
]
OLDEST_CUDA = (12, 0)  # the first whose nvcc knows C++20
# Machine code for the GPUs that the toolkit knows; it also runs on later GPUs of the same generation, such as 8.9 after 8.6. For
# all others the driver compiles the PTX, which is of the oldest generation with bf16, so that it serves all later ones.
ARCHITECTURES = "7.5;8.0+PTX;8.6;9.0;10.0;12.0"
# The runtime is linked into the library and its names are hidden: torch has loaded another one, of any version.
CUDA_LIBRARIES = ["-lcudart_static", "-lrt", "-ldl", "-lpthread", "-Wl,--exclude-libs,ALL"]


class NotBuilt(Exception):
    """The extension could not be built; the message is the reason that a user reads."""


class LeftOut(NotBuilt):
    """Nobody asked for the extension, and nothing here can build it; or somebody asked to leave it out. No line is shown."""


class Toolkit(NamedTuple):
    """A CUDA toolkit: its compiler, its folder, its release, and the GPUs that it compiles for ("sm_90")."""

    nvcc: str
    root: Path
    release: tuple[int, int]
    knows: frozenset[str]

    def __str__(self) -> str:
        return "{}.{}".format(*self.release)


class BuildNative(build_ext):
    """Compile with ninja and leave a record of the outcome beside the library, or where it would have been."""

    def build_extension(self, ext: Extension) -> None:
        library = Path(self.get_ext_fullpath(ext.name)).resolve()
        library.parent.mkdir(parents=True, exist_ok=True)
        library.unlink(missing_ok=True)  # an older library must not be packed beside the record of a failure
        name = ext.name.rpartition(".")[2]
        work = Path(self.build_temp, name).resolve()
        reason, made = "", {}
        try:
            if name == "_cuda":
                made = compile_cuda(ext, library, work)
            else:
                compile_with_ninja(ext, library, work)
        except LeftOut as why:
            reason = str(why)
        except (NotBuilt, OSError) as failure:  # OSError: the ninja package without its program
            reason = str(failure)
            tell(f"jessl_kernels installs {WITHOUT[name].format(reason)}")
        record = {"built": not reason, "reason": reason, "file": library.name} | made
        library.with_name(record_of(ext)).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    def copy_extensions_to_source(self) -> None:
        """Copy the records to the source tree, which an editable install imports, and remove stale libraries from it."""
        for ext in self.extensions:
            in_source = Path(self.get_ext_fullpath(ext.name))
            in_source.unlink(missing_ok=True)
            record = record_of(ext)
            shutil.copyfile(Path(self.build_lib, in_source.parent.name, record), in_source.with_name(record))
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


def record_of(ext: Extension) -> str:
    """The name of the record of an extension's build."""
    return f"{ext.name.rpartition('.')[2]}_status.json"


def compile_cuda(ext: Extension, library: Path, work: Path) -> dict[str, str]:
    """Compile the CUDA kernels where a toolkit is, or JESSL_CUDA asks for it; return with which toolkit, and for which GPUs."""
    wish = os.environ.get("JESSL_CUDA", "")
    if wish not in ("", "0", "1"):
        raise NotBuilt(f"JESSL_CUDA is {wish!r}, must be 0 or 1, or unset")
    if wish == "0":
        raise LeftOut("JESSL_CUDA was 0 when the package was built")
    try:
        toolkit = find_toolkit()
    except LeftOut as why:
        if wish == "1":
            raise NotBuilt(f"JESSL_CUDA is 1, but {why}") from why
        raise
    names = architectures(toolkit)
    ext.define_macros = [("JESSL_CUDA_TOOLKIT", f'"{toolkit}"'), ("JESSL_CUDA_ARCHITECTURES", f'"{" ".join(names)}"')]
    compile_with_ninja(ext, library, work, toolkit, names)
    return {"toolkit": str(toolkit), "architectures": " ".join(names)}


def compile_with_ninja(
    ext: Extension, library: Path, work: Path, toolkit: Toolkit | None = None, names: Sequence[str] = ()
) -> None:
    """Write `work`/build.ninja for the sources of `ext`, run it, and put the result at `library`.

    The toolkit compiles .cu files, for the architectures of these names.
    """
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
    objects = {f"{Path(source).name}.o": str(ROOT / source) for source in ext.sources}
    device = ["nvcc"]
    if toolkit is not None:
        device = [toolkit.nvcc, "-ccbin", host_of(compiler), *NVCCFLAGS, *code_for(names)]
        link_flags += [f"-L{folder}" for folder in library_folders(toolkit)] + CUDA_LIBRARIES

    def command(*words: str) -> str:
        return shlex.join(words).replace("$", "$$")

    rules = [
        "rule compile",
        f"  command = {command(*compiler, *flags)} -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule compile_device",
        f"  command = {command(*device)} -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        f"  command = {command(*compiler, *SHARED)} $in -o $out {command(*link_flags)}",
        *(
            f"build {object_file}: {'compile_device' if source.endswith('.cu') else 'compile'} {escaped(source)}"
            for object_file, source in objects.items()
        ),
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
        tools = shlex.join(compiler) if toolkit is None else f"{shlex.join(compiler)} with {toolkit.nvcc}"
        raise NotBuilt(f"{tools} failed: {first_errors(run.stdout)}")
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
    told = [line for line in lines if re.search("error|fatal|cannot find|undefined reference", line, re.IGNORECASE)]
    return " | ".join(told[:2] or lines[-2:])


def find_nvcc() -> str:
    """nvcc of CUDA_HOME, else on the path, else in the package nvidia-cuda-nvcc. If CUDA_HOME is set, nothing else is tried."""
    if home := os.environ.get("CUDA_HOME"):
        if found := shutil.which("nvcc", path=os.path.join(home, "bin")):
            return os.path.abspath(found)
        raise NotBuilt(f"CUDA_HOME is {home}, where no bin/nvcc is; name the toolkit's folder, or unset it")
    if found := shutil.which("nvcc"):
        return os.path.abspath(found)
    # A build that pip isolates does not see the environment's packages on sys.path.
    folders = {*sys.path, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    packaged = sorted(str(found) for folder in folders for found in Path(folder).glob("nvidia/cu[0-9]*/bin/nvcc"))
    if packaged:
        return packaged[-1]
    raise LeftOut("no CUDA toolkit was found (tried CUDA_HOME, nvcc on the path, the package nvidia-cuda-nvcc)")


def find_toolkit() -> Toolkit:
    """The toolkit of `find_nvcc`, if it is recent enough."""
    nvcc = find_nvcc()
    version = output_of(nvcc, "--version")
    release = re.search(r"release (\d+)\.(\d+)", version)
    if release is None:
        raise NotBuilt(f"{nvcc} --version names no release of CUDA, but says: {first_errors(version) or 'nothing'}")
    number = int(release[1]), int(release[2])
    if number < OLDEST_CUDA:
        raise NotBuilt("{} is of CUDA {}.{}; {}.{} or later is needed".format(nvcc, *number, *OLDEST_CUDA))
    # The folder is not always beside nvcc, which may be a script; so nvcc tells, before it would compile a file.
    top = re.search(r"^#\$ TOP=(.*\S)", output_of(nvcc, "--dryrun", "any.cu"), re.MULTILINE)
    root = Path(top[1]) if top else Path(nvcc).resolve().parents[1]
    return Toolkit(nvcc, root.resolve(), number, frozenset(output_of(nvcc, "--list-gpu-code").split()))


def output_of(*command: str) -> str:
    """What a command prints, whether or not it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    return done.stdout


def architectures(toolkit: Toolkit) -> list[str]:
    """The GPUs to compile for, such as "9.0", or "9.0+PTX" for PTX besides: those of TORCH_CUDA_ARCH_LIST, else ARCHITECTURES."""
    wish = re.split(r"[;,\s]+", os.environ.get("TORCH_CUDA_ARCH_LIST", "").strip(" ;,"))
    if wish == [""]:
        return [name for name in ARCHITECTURES.split(";") if machine(name) in toolkit.knows]
    for name in wish:
        if not re.fullmatch(r"\d+\.\da?(\+PTX)?", name):
            raise NotBuilt(f"TORCH_CUDA_ARCH_LIST names {name!r}; it must be numbers such as 8.0;9.0+PTX, or unset")
    return wish


def machine(architecture: str) -> str:
    """nvcc's name for the machine code of an architecture: "sm_90" of "9.0+PTX"."""
    return "sm_" + architecture.removesuffix("+PTX").replace(".", "")


def code_for(names: Sequence[str]) -> Iterator[str]:
    """nvcc's flags for architectures."""
    for name in names:
        code = machine(name)
        virtual = code.replace("sm", "compute")
        yield f"-gencode=arch={virtual},code={code}"
        if name.endswith("+PTX"):
            yield f"-gencode=arch={virtual},code={virtual}"


def host_of(compiler: list[str]) -> str:
    """The program in a command of CXX, for nvcc, which takes no command: "g++" of "ccache g++ -m64"."""
    return next(word for word in reversed(compiler) if not word.startswith("-"))


def library_folders(toolkit: Toolkit) -> list[Path]:
    """Where the runtime library may be; where none of these is, as in Debian's packages, the linker finds it."""
    root = toolkit.root
    return [folder for folder in (root / "lib64", root / "lib", *sorted(root.glob("targets/*/lib"))) if folder.is_dir()]


def sources(*patterns: str, beside: str = "") -> list[str]:
    """The files of csrc that fit a pattern, but for those in the folder `beside`."""
    csrc = ROOT / "csrc"
    found = {path for pattern in patterns for path in csrc.rglob(pattern)}
    return sorted(str(path.relative_to(ROOT)) for path in found if not beside or csrc / beside not in path.parents)


if __name__ == "__main__":
    setup(
        long_description=readme_for_the_index(),
        long_description_content_type="text/markdown",
        ext_modules=[
            Extension(
                "jessl_kernels._native",
                sources=sources("*.cpp", beside="cuda"),
                depends=sources("*.h", beside="cuda"),
                optional=True,
            ),
            Extension(
                "jessl_kernels._cuda",
                sources=sources("cuda/*.cpp", "cuda/*.cu"),
                depends=sources("cuda/*.h", "cuda/*.cuh", "pairwise/*.h"),
                optional=True,
            ),
        ],
        cmdclass={"build_ext": BuildNative, "dist_info": TellOfOlderTorch},
    )
