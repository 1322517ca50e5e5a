# `make restore` restores the example photograph, `make test` runs the tests; both make the environment when it is missing.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

# Counting covered lines takes 40 % more time: `make test COVERAGE="--cov --cov-fail-under=90"`.
COVERAGE ?=

# One thread per process: the tests run in two processes.
test lint: export OMP_NUM_THREADS = 1

.PHONY: restore test test-slow test-browser lint format package

restore: $(STAMP)
	$(BIN)/difface restore examples/astronaut_photo.png --compare -o out

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow and not browser" -n 2 $(COVERAGE)

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

test-browser: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt playwright
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

format: $(STAMP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[upscale,train,metrics,runtimes,demo,dev]"
	touch $(STAMP)
