# Two commands from a clean clone, with nothing but Python >= 3.11:
#   make demo   sets up .venv and runs the main job: a GEMM on an H100, no GPU and no data needed
#   make test   sets up .venv and runs every check and test
# The others:   make lint · format · bench · soak · clean

SIZES := --set M=4096 --set N=4096 --set K=4096
TILE := --set BM=128 --set BN=128 --set BK=16 --set TM=8 --set TN=8

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint format bench soak clean

demo: $(VENV)/.core
	@$(BIN)/costmodel estimate gemm --device H100 $(SIZES) $(TILE)
	@$(BIN)/costmodel rank gemm --device H100 $(SIZES)

test: lint
	@$(BIN)/python -m pytest -n 2 -q

lint: $(VENV)/.dev
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo "unformatted files (above): run make format" >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@layers="$$($(BIN)/lint-imports --no-logo)" || { echo "$$layers" >&2; exit 1; }

format: $(VENV)/.dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.dev
	@$(BIN)/python -m pytest -m bench -q -s

soak: $(VENV)/.dev
	@COSTMODEL_SOAK=1 $(BIN)/python -m pytest -m soak -n 2 -q

clean:
	rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

# Setting up is repeated only where the dependencies changed.
$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing costmodel into $(VENV) (once)" >&2
	@$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing costmodel and its development tools into $(VENV) (once)" >&2
	@$(PIP_INSTALL) -e '.[dev]'
	@touch $(VENV)/.core $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "costmodel needs Python >= 3.11; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
