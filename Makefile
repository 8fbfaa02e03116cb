# `make quickstart`, `make unit`, `make test` and `make test-faults` work on a fresh clone; all make .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two test processes, as on the two cores that the times in tests/README.md are for.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: quickstart unit test test-faults test-long lint venv clean

quickstart: venv
	$(BIN)/compactbio run jobs/quickstart.yaml

unit: lint
	$(PYTEST) tests/unit tests/architecture

test: lint
	$(PYTEST)

test-faults: venv
	$(PYTEST) -m faults tests/integration

test-long: venv
	$(BIN)/python tests/benchmarks/soak.py
	$(BIN)/python tests/benchmarks/submissions.py

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

venv: $(VENV)/.installed

# Byte code is compiled on all cores, and not while pip waits for it.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[quickstart,dev]'
	-$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib
	touch $(VENV)/.installed

clean:
	rm -rf $(VENV)
