# Every target sets up what it needs in .venv, once; `make` alone lists them.
# Options go in ARGS: make train ARGS="--epochs 2", make test ARGS="tests/nn -x".

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help train test check bench fuzz

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' Makefile

train: $(VENV)/.stamp-train  ## train the MLP ResNet on MNIST, from data/ into runs/
	$(BIN)/needle train $(ARGS)

test: $(VENV)/.stamp-dev  ## run the whole test suite, on all cores
	$(BIN)/python -m pytest -n auto $(ARGS)

check: $(VENV)/.stamp-dev  ## lint, format, types, architecture, documentation; count the lines
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/python -m pytest -q tests/test_architecture.py tests/test_docs.py
	$(BIN)/python scripts/count_lines.py

bench: $(VENV)/.stamp-peers  ## measure against NumPy, PyTorch and JAX (a large download)
	$(BIN)/python benchmarks/run.py $(ARGS)

fuzz: $(VENV)/.stamp-dev  ## what needs longer: full trainings, thousands of cases a property
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest -m "fuzz or hypothesis" --timeout=3600 $(ARGS)

# One stamp for each extra of pyproject.toml: it is installed again when that file changes.
$(VENV)/.stamp-%: pyproject.toml | $(VENV)/.stamp
	@echo "Installing needle-dl[$*] into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@ $(if $(filter dev,$*),$(VENV)/.stamp-train)  # dev contains train

$(VENV)/.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "Needle needs Python 3.11 or newer; $(PYTHON) is:" \
	         "$$($(PYTHON) --version 2>&1 || true)." \
	         "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@
