# Every target does its own set-up, once: a virtual environment in .venv, stamped for each group of
# dependencies. Another interpreter: make test PYTHON=python3.12 VENV=build/py312
PYTHON ?= python3
VENV ?= .venv
PEERS ?= .venv-peers
BUILD := build
MINUTES := 10
BIN := $(VENV)/bin
LAYERS := frontend ir passes codegen runtime
QUIET_PIP := -m pip --quiet --quiet --no-input --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help rules test test-all test-browser test-pythons fuzz fuzz-files lint typed demo bench bench-peers parity clean

help:
	@echo "make test         the tests"
	@echo "make test-all     the tests, slow ones included"
	@echo "make test-pythons the tests on each Python that the machine has, 3.10 to 3.13"
	@echo "make test-browser the pages of dumps in a headless Chromium, which must be installed"
	@echo "make fuzz         random functions and programs, compared for MINUTES=$(MINUTES)"
	@echo "make fuzz-files   files that nobody should trust, led by coverage, for as long"
	@echo "make rules        write docs/rules.md from the tables of rules"
	@echo "make lint         ruff and mypy --strict"
	@echo "make demo         train on handwritten digits, draw the result into $(BUILD)/digits.png"
	@echo "make bench        speed against NumPy, numba and gcc"
	@echo "make bench-peers  speed against JAX, onnxruntime, torch and TensorFlow (a large download)"
	@echo "make parity       the demo on TensorFlow, its import line changed; graphs exchanged with it"
	@echo "make clean        remove $(BUILD) and the environments"

test: $(VENV)/.with-test
	$(BIN)/python -m pytest -q -m "not slow"

test-all: $(VENV)/.with-test
	$(BIN)/python -m pytest -q

# Pictures of the page go to $(BUILD)/pages.
test-browser: $(VENV)/.with-test $(VENV)/.with-browser
	$(BIN)/python -m pytest -q -m "slow or not slow" tests/test_show_browser.py

fuzz: $(VENV)/.with-test
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

fuzz-files: $(VENV)/.with-fuzz
	$(BIN)/python -m tests.fuzz.covering -max_total_time=$$(( $(MINUTES) * 60 ))

# Which ones: make test-pythons PYTHONS="3.10 3.13"
test-pythons:
	$(PYTHON) tests/pythons.py $(PYTHONS)

rules: $(VENV)/.with-test
	$(BIN)/python -m stepforge.passes.rules_page > docs/rules.md

lint: $(VENV)/.with-lint typed
	$(BIN)/ruff check .
	cd $(BUILD)/typed && $(abspath $(BIN))/mypy --config-file ../../pyproject.toml \
		--cache-dir ../../.mypy_cache --package stepforge

# A type checker cannot follow the mapped folders of an editable install: show it the package as it
# is when installed, by links.
typed:
	rm -rf $(BUILD)/typed
	mkdir -p $(BUILD)/typed/stepforge
	ln -s $(addprefix $(CURDIR)/,$(LAYERS)) $(CURDIR)/stepforge/* $(BUILD)/typed/stepforge/

demo: $(VENV)/.with-plot
	$(BIN)/python examples/digits.py --picture $(BUILD)/digits.png

bench: $(VENV)/.with-bench
	$(BIN)/python benchmarks/bench.py

bench-peers: $(VENV)/.with-bench $(PEERS)/.with-peers $(PEERS)/.with-torch
	$(BIN)/python benchmarks/bench.py --peers $(PEERS)/bin/python

parity: $(PEERS)/.with-parity
	mkdir -p $(BUILD)/parity
	cp -r examples/data $(BUILD)/parity
	sed 's/^import stepforge as tf$$/import tensorflow.compat.v1 as tf/' examples/digits.py \
		> $(BUILD)/parity/digits.py
	$(PEERS)/bin/python $(BUILD)/parity/digits.py --picture $(BUILD)/parity/digits.png
	$(PEERS)/bin/python tests/graphdefs/parity.py

clean:
	rm -rf $(BUILD) dist $(VENV) .venv-3.* $(PEERS) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -rf *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.with-%: pyproject.toml | $(BIN)/python
	$(BIN)/python $(QUIET_PIP) install --editable '.[$*]'
	@touch $@

# What stepforge is measured against pins versions of what it shares with stepforge, so that it gets an
# environment of its own; the benchmark starts processes in it.
$(PEERS)/bin/python:
	$(PYTHON) -m venv $(PEERS)

$(PEERS)/.with-%: benchmarks/requirements/%.txt | $(PEERS)/bin/python
	$(PEERS)/bin/python $(QUIET_PIP) install --requirement $<
	@touch $@
