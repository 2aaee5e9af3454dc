# Everything sets itself up: a .venv beside this file, made once and again when pyproject.toml changes.
# make demo | test | test-slow | lint | format | docs | bench | clean

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2

.PHONY: demo test test-slow lint format docs bench clean
.DEFAULT_GOAL := help

help:
	@sed -n '2s/^# //p' Makefile

demo: $(VENV)/.demo
	@$(BIN)/codecria demo

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) -m "not slow"

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff check src tests benchmarks experiments
	$(BIN)/ruff format --check src tests benchmarks experiments
	$(BIN)/pyright

format: $(VENV)/.dev
	$(BIN)/ruff check --fix src tests benchmarks experiments
	$(BIN)/ruff format src tests benchmarks experiments

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict

# What needs a GPU is left out where there is none.
NO_GPU := $(if $(shell nvidia-smi -L 2>/dev/null),,benchmarks/gpu_decode.py)

bench: $(VENV)/.dev
	@for file in $(filter-out benchmarks/paired.py benchmarks/packing_effect.py benchmarks/verdicts.py $(NO_GPU),$(wildcard benchmarks/*.py)); do echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean:
	rm -rf $(VENV) build dist site .pytest_cache .ruff_cache .hypothesis

# A stamp a set of extras: installing one set does not hide that another is missing.
$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[evaluation,serve]"
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@

$(VENV)/.docs: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[docs]"
	@touch $@

# The first of these that is Python 3.11 or newer and can make a virtual environment.
$(VENV)/bin/python:
	@for python in $${PYTHON:-} python3 python3.13 python3.12 python3.11; do \
	  if command -v $$python >/dev/null && $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "making $(VENV) with $$($$python --version)"; exec $$python -m venv $(VENV); \
	  fi; \
	done; \
	echo "error: no Python 3.11 or newer with venv on PATH; install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1
