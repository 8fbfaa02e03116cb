# `make quickstart`, `make test` and `make test-faults` work on a fresh clone; all make .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test test-faults lint venv clean

quickstart: venv
	$(BIN)/compactbio run jobs/quickstart.yaml

test: lint
	$(BIN)/python -m pytest

test-faults: venv
	$(BIN)/python -m pytest -m faults tests/integration

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

venv: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[quickstart,dev]'
	touch $(VENV)/.installed

clean:
	rm -rf $(VENV)
