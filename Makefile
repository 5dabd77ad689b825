# make quickstart: install and run the whole chain. make test: install the dev extra and run the tests.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/quickstart

.PHONY: quickstart install install-dev install-docs test test-slow test-lowest lint types check docs release benchmarks clean

quickstart: install
	$(BIN)/dcal-synth --output $(RUN)/data --families 260 --images 12 --image_size 64 --difficulty easy --overwrite
	$(BIN)/dcal-train --config quickstart --data_dir $(RUN)/data --output_dir $(RUN) --overwrite
	$(BIN)/dcal-evaluate --model $(RUN)/best_model.pth --data_dir $(RUN)/data --output_dir $(RUN)/evaluation --visualize

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev
install-docs: $(VENV)/.installed-docs

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "twin_dcal needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -e ".[dev]"
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -e ".[docs]"
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-release: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -e ".[release]"
	@touch $@ $(VENV)/.installed

# Test files are dealt to two processes; each computes with one thread.
test: install-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: install-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n 2 --dist loadfile

# With the lowest versions that pyproject.toml allows, installed into .lowest (CONTRIBUTING.md).
test-lowest:
	.ci/lowest core prepare trackers

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install-dev
	$(BIN)/mypy

check: test lint types

# The documentation site, build/site/index.html: opens from the disk, loads nothing from elsewhere.
docs: install-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	$(BIN)/python docs/_site/site_check.py build/site

# Wheel and source archive into dist/, checked as an index would; nothing is uploaded (CONTRIBUTING.md).
release: $(VENV)/.installed-release
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

benchmarks: install
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/train_step.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/inference.py
	$(BIN)/python benchmarks/all_pairs.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/synth.py
	$(BIN)/python benchmarks/startup.py

clean:
	rm -rf $(RUN) build/site .pytest_cache .mypy_cache .ruff_cache
