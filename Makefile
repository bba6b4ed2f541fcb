# Needs python3 (3.11 or newer) and make; everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test check interop bench docs soak clean

demo: $(STAMP)-demo
	$(BIN)/tailrace run conf/quickstart.yaml --once
	$(BIN)/tailrace peek data/quickstart/lake/logs

test: $(STAMP)-dev
	$(BIN)/python -m pytest -n 3 --dist worksteal

check: $(STAMP)-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

interop: $(STAMP)-dev
	$(BIN)/python -m tests.support.install_servers
	$(BIN)/python -m pytest -m interop

soak: $(STAMP)-dev
	$(BIN)/python -m pytest -m soak -s

bench: $(STAMP)-dev
	$(BIN)/python -m benchmarks.run

docs: $(STAMP)-dev
	$(BIN)/python -m tailrace.config.reference docs/reference

clean:
	rm -rf .venv .cache data build dist *.egg-info

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Tailrace needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv

$(STAMP)-demo: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(STAMP)-dev: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[postgresql,test,check]'
	touch $@
