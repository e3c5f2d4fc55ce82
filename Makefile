# Everything happens in .venv; nothing but Python >= 3.11 and make is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow lint bench clean

demo: $(VENV)/demo.stamp
	$(BIN)/saccade demo --out runs/demo; code=$$?; \
	echo "report: runs/demo/run/report.html"; echo "bundle: runs/demo/run/bundle"; \
	case $$code in 0|3|4) exit 0;; *) exit $$code;; esac

# What measures runs alone; the rest shares the cores, one thread each.
test: $(VENV)/dev.stamp lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow and not alone' -n auto --dist worksteal
	$(BIN)/python -m pytest -m 'not slow and alone'

# More of the same: other recipes, other thresholds, the other direction.
test-slow: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/mypy

# Runs alone, on a quiet machine; prints one table. Installs its rivals in a venv of its own.
bench: test-slow
	$(BIN)/python -m benchmarks.run

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo]'
	touch $@

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
