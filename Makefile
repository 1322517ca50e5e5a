# `make restore` restores the example photograph, `make test` runs the tests; both make what is missing of the environment.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

UV := $(shell command -v uv)
MAKE_VENV := $(if $(UV),uv venv --quiet --python $(PYTHON),$(PYTHON) -m venv)
PIP := $(if $(UV),uv pip install --torch-backend auto --python $(BIN)/python,$(BIN)/python -m pip install)
INSTALL := $(PIP) --quiet --constraint constraints.txt
# PyPI's torch for Linux brings 3 GB of CUDA along; without an NVIDIA GPU the smaller one is taken, if its index can be reached.
TORCH := torch $(if $(UV)$(shell command -v nvidia-smi),,--retries 1 --timeout 15 --extra-index-url https://download.pytorch.org/whl/cpu)

# Counting covered lines takes 40 % more time: `make test COVERAGE="--cov --cov-fail-under=90"`.
COVERAGE ?=

# One thread per process: the tests run in two processes.
test lint: export OMP_NUM_THREADS = 1

.PHONY: restore test test-slow test-browser lint format package docs

restore: .venv/restores
	$(BIN)/difface restore examples/astronaut_photo.png --compare -o out

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow and not browser" -n 2 $(COVERAGE)

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

test-browser: $(STAMP)
	$(INSTALL) playwright
	command -v chromium || (apt-get update && apt-get install --yes chromium)
	$(BIN)/python -m pytest -m browser

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/ty check

package: $(STAMP)
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

docs: $(STAMP)
	$(INSTALL) --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(STAMP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.venv/torch:
	$(MAKE_VENV) .venv
	$(INSTALL) $(TORCH)
	touch $@

.venv/restores: .venv/torch pyproject.toml constraints.txt
	$(INSTALL) --editable .
	touch $@

$(STAMP): .venv/torch pyproject.toml constraints.txt
	$(INSTALL) --editable ".[upscale,train,metrics,runtimes,demo,dev]"
	touch .venv/restores $@
