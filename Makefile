# `make demo` and `make test` work on a fresh machine with Python 3.10-3.12 and make.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
DEMO := runs/demo
DASHBOARD ?= 1
PORT ?= 8501

.PHONY: help setup demo dashboard test lint results clean
.DELETE_ON_ERROR:

help:
	@echo "make demo       train, export, verify, time and compare a small binary network (DASHBOARD=0: no dashboard)"
	@echo "make dashboard  the dashboard of all runs"
	@echo "make test       every test            make lint     ruff and mypy"
	@echo "make results    the figures of docs/results.md, measured anew"
	@echo "make setup      the environment in $(VENV) (PYTHON=python3.11 chooses another Python)"

# ---- environment

setup: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo "error: $$($(PYTHON) --version) will not do; give a Python 3.10, 3.11 or 3.12 with PYTHON=..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --disable-pip-version-check --upgrade 'pip>=24' 'setuptools>=68' wheel
	$(RUN) -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[train,export,app,dev]'
	@touch $@

# ---- the main job, on data inside a package; each step is a command of the README

demo: setup
	$(RUN) -m train recipe train/recipes/demo.yaml
	@$(MAKE) --no-print-directory $(DEMO)/measured
	$(RUN) -m app.summary $(DEMO)
ifneq ($(DASHBOARD),0)
	@$(MAKE) --no-print-directory dashboard
endif

$(DEMO)/real.onnx: $(DEMO)/linear-real/model.safetensors
	$(RUN) -m export onnx $< $@ --record $(DEMO)

$(DEMO)/binary.onnx: $(DEMO)/linear-binary/model.safetensors
	$(RUN) -m export onnx $< $@ --record $(DEMO)

$(DEMO)/binary.tflite: $(DEMO)/linear-binary/model.safetensors
	$(RUN) -m export lce $< $@ --record $(DEMO)

$(DEMO)/measured: $(DEMO)/real.onnx $(DEMO)/binary.onnx $(DEMO)/binary.tflite
	$(RUN) -m export verify $(DEMO)/linear-real/model.safetensors $(DEMO)/real.onnx --data mnist5k --images 100 --record $(DEMO)
	$(RUN) -m export verify $(DEMO)/linear-binary/model.safetensors $(DEMO)/binary.onnx --data mnist5k --images 100 --record $(DEMO)
	$(RUN) -m export verify $(DEMO)/linear-binary/model.safetensors $(DEMO)/binary.tflite --data mnist5k --images 100 --record $(DEMO)
	$(VENV)/bin/edgebnn bench $^ --record $(DEMO)
	@touch $@

dashboard: setup
	$(VENV)/bin/streamlit run app/main.py --server.port $(PORT) --server.address localhost --server.headless true \
	  --browser.gatherUsageStats false

# ---- checks

test: setup
	$(RUN) -m pytest

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

results: setup
	$(RUN) -m docs.results

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
