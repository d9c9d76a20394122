# Every target does its own set-up, once: a virtual environment in .venv, stamped for each group of
# dependencies. Another interpreter: make test PYTHON=python3.12 VENV=build/py312
PYTHON ?= python3
VENV ?= .venv
BUILD := build
BIN := $(VENV)/bin
LAYERS := frontend ir passes codegen runtime
QUIET_PIP := -m pip --quiet --quiet --no-input --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help rules test test-all lint typed demo bench bench-peers parity clean

help:
	@echo "make test         the tests"
	@echo "make test-all     the tests, slow ones included"
	@echo "make rules        write docs/rules.md from the tables of rules"
	@echo "make lint         ruff and mypy --strict"
	@echo "make demo         train on handwritten digits, draw the result into $(BUILD)/digits.png"
	@echo "make bench        speed against NumPy, numba and gcc"
	@echo "make bench-peers  the same programs on TensorFlow (a large download)"
	@echo "make parity       the demo on TensorFlow, its import line changed; graphs exchanged with it"
	@echo "make clean        remove $(BUILD) and the environment"

test: $(VENV)/.with-test
	$(BIN)/python -m pytest -q -m "not slow"

test-all: $(VENV)/.with-test
	$(BIN)/python -m pytest -q

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

bench-peers: $(BUILD)/peers/.done
	$(BUILD)/peers/bin/python benchmarks/bench.py --backend tensorflow.compat.v1

parity: $(BUILD)/peers/.done
	mkdir -p $(BUILD)/parity
	cp -r examples/data $(BUILD)/parity
	sed 's/^import stepforge as tf$$/import tensorflow.compat.v1 as tf/' examples/digits.py \
		> $(BUILD)/parity/digits.py
	$(BUILD)/peers/bin/python $(BUILD)/parity/digits.py --picture $(BUILD)/parity/digits.png
	$(BUILD)/peers/bin/python tests/graphdefs/parity.py

clean:
	rm -rf $(BUILD) dist $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.with-%: pyproject.toml | $(BIN)/python
	$(BIN)/python $(QUIET_PIP) install --editable '.[$*]'
	@touch $@

# TensorFlow pins versions of what it shares with stepforge, so it gets an environment of its own.
$(BUILD)/peers/.done: pyproject.toml
	$(PYTHON) -m venv $(BUILD)/peers
	$(BUILD)/peers/bin/python $(QUIET_PIP) install --editable '.[bench,full,peers]'
	@touch $@
