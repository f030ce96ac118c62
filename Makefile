# `make demo` and `make test` work on a fresh machine with Python 3.10-3.14, make and a C++ compiler.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
DEMO := runs/demo
DASHBOARD ?= 1
PORT ?= 8501
# Threads that wait should not spin on machines that others use too (train/__main__.py).
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help setup kernels demo dashboard test test-all test-kernels test-sanitize test-simde test-avx512 test-aarch64
.PHONY: lint bench bench-kernels bench-train results exactness docs screenshots clean
.DELETE_ON_ERROR:

help:
	@echo "make demo       train, export, verify, time and compare a small binary network (DASHBOARD=0: no dashboard)"
	@echo "make dashboard  the dashboard of all runs"
	@echo "make screenshots  pictures of every page of the dashboard, in build/screenshots"
	@echo "make test       every test; of long proofs a sample            make lint     ruff, mypy and clang-format"
	@echo "make test-all   the same, and the whole of the long proofs"
	@echo "make test-kernels  the kernels under sanitizers, and on processors that are emulated"
	@echo "make bench      the packed network beside what one would pick instead, and the kernels beside their ceiling"
	@echo "make bench-kernels  single units on every path of this processor, beside the path's ceiling"
	@echo "make bench-train  a training step beside the same step as S2-BNN's public code writes it"
	@echo "make results    docs/results/cifar10.md, from the committed records"
	@echo "make exactness  the figures of docs/results/exactness.md, measured anew"
	@echo "make docs       the documentation as a site, in build/site; fails on a broken link"
	@echo "make kernels    the C++ library, built anew after a change"
	@echo "make setup      the environment in $(VENV) (PYTHON=python3.11 chooses another Python)"

# ---- environment

setup: $(VENV)/installed $(VENV)/kernels

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' || \
	  { echo "error: $$($(PYTHON) --version) will not do; give a Python from 3.10 to 3.14 with PYTHON=..." >&2; exit 2; }
	@command -v $${CXX:-c++} >/dev/null || \
	  { echo "error: there is no C++ compiler; install one (Debian: apt-get install g++), or name it with CXX=..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --disable-pip-version-check --upgrade 'pip>=24' 'setuptools>=68' wheel
	$(RUN) -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[train,export,app,dev]'
	@touch $@

# An editable install builds the library into edgebnn/kernels, with a CMake of its own where the machine has none.
kernels: $(VENV)/kernels

$(VENV)/kernels: edgebnn/kernels/CMakeLists.txt $(wildcard edgebnn/kernels/*/*.cpp edgebnn/kernels/*/*.h edgebnn/kernels/*.map) | $(VENV)/installed
	$(RUN) -m pip install --disable-pip-version-check --quiet --no-deps --editable .
	@touch $@

# ---- the main job, on data inside a package; each step is a command of the README

# Why the LCE file cannot be run; empty where it can. Make asks when a recipe uses it, so after `setup`.
NO_LCE = $(shell $(RUN) -m edgebnn.optional larq-compute-engine)

# One thread a process: an operation of a network this small is over sooner than a second thread is awake. The cores
# work on different files instead, where there are several.
demo: export OMP_NUM_THREADS ?= 1
demo: setup
	$(RUN) -m train recipe train/recipes/demo.yaml
	@$(MAKE) --no-print-directory -j2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target) $(DEMO)/verified
	@$(MAKE) --no-print-directory $(DEMO)/measured LEFT_OUT='$(if $(NO_LCE),$(DEMO)/binary.tflite)'
	$(RUN) -m app.summary $(DEMO)
	$(if $(NO_LCE),@echo "not timed: $(DEMO)/binary.tflite ($(NO_LCE))")
ifneq ($(DASHBOARD),0)
	@$(MAKE) --no-print-directory dashboard
endif

$(DEMO)/real.onnx: $(DEMO)/linear-real/model.safetensors
	$(RUN) -m export onnx $< $@ --record $(DEMO)

$(DEMO)/binary.onnx: $(DEMO)/linear-binary/model.safetensors
	$(RUN) -m export onnx $< $@ --record $(DEMO)

$(DEMO)/binary-packed.onnx: $(DEMO)/linear-binary/model.safetensors
	$(RUN) -m export onnx $< $@ --packed --record $(DEMO)

$(DEMO)/binary.tflite: $(DEMO)/linear-binary/model.safetensors
	$(RUN) -m export lce $< $@ --record $(DEMO)

# `demo` names here what this environment has no runtime for.
LEFT_OUT :=
DEMO_FILES := $(addprefix $(DEMO)/,real.onnx binary.onnx binary-packed.onnx binary.tflite)
DEMO_BINARY := $(filter-out %/real.onnx,$(DEMO_FILES))

$(DEMO)/real.onnx.verified: $(DEMO)/linear-real/model.safetensors $(DEMO)/real.onnx
$(DEMO_BINARY:=.verified): %.verified: $(DEMO)/linear-binary/model.safetensors %
$(DEMO_BINARY:=.verified) $(DEMO)/real.onnx.verified:
	$(RUN) -m export verify $^ --data mnist5k --images 100 --record $(DEMO)
	@touch $@

# The slowest first.
$(DEMO)/verified: $(addsuffix .verified,$(filter %.tflite,$(DEMO_FILES)) $(filter %.onnx,$(DEMO_FILES)))
	@touch $@

# Timed when nothing else runs.
$(DEMO)/measured: $(DEMO)/verified
	$(VENV)/bin/edgebnn bench $(filter-out $(LEFT_OUT),$(DEMO_FILES)) --record $(DEMO)
	@touch $@

dashboard: setup
	$(VENV)/bin/streamlit run app/main.py --server.port $(PORT)

# Every page of the dashboard on the demo's records, light and dark, wide and narrow.
screenshots: setup
	$(RUN) -m tools.screenshots build/screenshots

# ---- checks

# Tests run in as many processes as this says, each on a core of its own (tests/conftest.py).
WORKERS ?= 2
PYTEST := $(RUN) -m pytest -n $(WORKERS) --dist worksteal

# Every test, but of the long proofs only a sample: what is marked `long` is left out.
test: setup
	$(PYTEST)

# The same, and then what is marked `long`.
test-all: test
	$(PYTEST) -m long

CXX_FILES := $(wildcard edgebnn/kernels/*/*.h edgebnn/kernels/*/*.cpp tests/kernels/*/*.h tests/kernels/*/*.cpp)

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/clang-format --dry-run --Werror $(CXX_FILES)

# The kernels in other builds, and on processors that are not at hand. .ci/run says which Debian packages this takes.
# Each is asked for by its own name; CI runs them all.

test-kernels: test-sanitize test-simde test-avx512 test-aarch64

# Every path this processor has, watched for wrong accesses and undefined behaviour. What Python leaves behind when it
# ends is its own business.
test-sanitize: setup
	$(VENV)/bin/cmake -S edgebnn/kernels -B build/sanitize -DEDGEBNN_SANITIZE=ON -DEDGEBNN_TESTS=ON >/dev/null
	$(VENV)/bin/cmake --build build/sanitize
	LD_PRELOAD="$$($${CXX:-c++} -print-file-name=libasan.so) $$($${CXX:-c++} -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=4096 \
	  EDGEBNN_LIBRARY=$(CURDIR)/build/sanitize/libedgebnn.so \
	  EDGEBNN_UNIT_TESTS=$(CURDIR)/build/sanitize/cpp/edgebnn_unit_tests \
	  $(RUN) -m pytest -m '' tests/kernels tests/runtime/test_fuzz.py tests/runtime/test_refusals.py \
	    tests/export/onnx/test_packed.py tests/export/verify/test_packed_verify.py

# The logic of avx512.cpp, its instructions computed by others.
test-simde: setup
	$(VENV)/bin/cmake -S tests/kernels -B build/simde >/dev/null
	$(VENV)/bin/cmake --build build/simde --target edgebnn_simde
	EDGEBNN_LIBRARY=$(CURDIR)/build/simde/libedgebnn_simde.so $(RUN) -m pytest \
	  tests/kernels/test_unit.py tests/kernels/test_image_conv.py -k avx512

# The same file's machine code, on a processor that Bochs emulates (Debian: bochs, bochs-term): half a minute.
test-avx512:
	tests/kernels/bochs/run.sh build/bochs

test-aarch64: setup
	tests/kernels/aarch64.sh $(RUN) build/aarch64

# ---- figures

bench: setup
	$(RUN) -m export.bench

bench-kernels: setup
	$(VENV)/bin/cmake -S edgebnn/kernels -B build/cpp -DEDGEBNN_TESTS=ON >/dev/null
	$(VENV)/bin/cmake --build build/cpp --target edgebnn_bench
	build/cpp/cpp/edgebnn_bench

bench-train: setup
	$(RUN) -m train.bench

results: setup
	$(RUN) -m docs.results.cifar10

exactness: setup
	$(RUN) -m docs.results.exactness

# ---- documentation

docs: $(VENV)/docs
	$(VENV)/bin/mkdocs build --strict

$(VENV)/docs: pyproject.toml | $(VENV)/installed
	$(RUN) -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
