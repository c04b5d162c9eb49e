# Needs Python 3.11 or newer, and nothing else: `make up` on a fresh machine.

PYTHON ?= python3
BIN := .venv/bin
PORT ?= 8000
HOME_DIR ?= var

.DEFAULT_GOAL := help
.PHONY: help venv up test check bench format lock clean

help:
	@echo "make up      run the whole service on this machine (Ctrl-C stops it)"
	@echo "make test    run the whole test suite, on real Postgres and Redis"
	@echo "make check   formatter, linter, types, import rule, dependency audit, schema"
	@echo "make bench   run every benchmark"
	@echo "make venv    make .venv from the lock file; the others call it"
	@echo "make format  format the code;  make lock  renew requirements.lock"

venv: .venv/ready

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch .venv/ready

up: venv
	@$(BIN)/countersign up --port $(PORT) --home $(HOME_DIR)

test: venv
	$(BIN)/python -m pytest -n 2

check: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.support.schema
	$(BIN)/python -m tests.support.audit

bench: venv
	@for script in bench/*.py; do $(BIN)/python $$script --seconds 1 || exit 1; done

format: venv
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra embedded --group dev --group bench --universal \
	    --python-version 3.11 --generate-hashes --no-emit-index-url --output-file requirements.lock

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build *.egg-info
