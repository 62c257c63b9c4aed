# Every target does its own set-up: a virtual environment in .venv with exactly the packages of the lock files.
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
# A file at a time on every core: what a file sets up once stays with one process.
TESTS := $(BIN)/python -m pytest -n auto --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup gen gen-check lock lint fmt breaking test test-contract test-unit test-grpc test-rest run bench clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: .venv/run ## start the whole server; Ctrl-C stops it
	@exec $(BIN)/python -m services up

setup: .venv/dev ## install everything, the development tools too

.venv/run: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Jan Server needs Python 3.11 or newer; set PYTHON=...")'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "This Python has no venv module: install it (Debian: apt install python3-venv)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the locked packages (about a minute the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python deploy/link.py
	@touch $@

.venv/dev: requirements-dev.lock pyproject.toml | .venv/run
	@echo "Installing the development tools"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock
	@touch $@

gen: .venv/dev ## make gen/ from proto/
	$(BIN)/python proto/generate.py

gen-check: .venv/dev ## prove that gen/ is what proto/ says
	@rm -rf .data/gen-check && mkdir -p .data/gen-check
	@$(BIN)/python proto/generate.py .data/gen-check 2>/dev/null
	@diff -r -x __pycache__ gen .data/gen-check && echo "gen/ is fresh"

lock: .venv/dev ## resolve the dependencies anew
	@test -x .venv/lock/bin/uv || { $(PYTHON) -m venv .venv/lock && .venv/lock/bin/pip install --quiet uv; }
	.venv/lock/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 pyproject.toml -o requirements.lock
	.venv/lock/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 pyproject.toml --group dev -o requirements-dev.lock

lint: .venv/dev ## ruff, mypy, buf
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	@mkdir -p .data && $(BIN)/python proto/generate.py image .data/proto.binpb
	$(BIN)/buf lint .data/proto.binpb --config buf.yaml

fmt: .venv/dev ## format the code
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

AGAINST ?= $(shell git describe --tags --abbrev=0 2>/dev/null || echo HEAD)
breaking: .venv/dev ## find breaking changes of proto/ since the last release (or AGAINST=<git revision>)
	@rm -rf .data/against && mkdir -p .data/against && git archive $(AGAINST) proto | tar -x -C .data/against
	@$(BIN)/python .data/against/proto/generate.py image .data/against.binpb
	@$(BIN)/python proto/generate.py image .data/proto.binpb
	$(BIN)/buf breaking .data/proto.binpb --against .data/against.binpb --config buf.yaml

test: .venv/dev tests/rest/js/node_modules tests/rest/oidc/node_modules ## all four levels
	$(TESTS)

test-contract: .venv/dev ## the promises about the tree itself
	$(TESTS) tests/contract

test-unit: .venv/dev ## engines, parsers and tools with fakes
	$(TESTS) tests/unit

test-grpc: .venv/dev ## real servers and PostgreSQL
	$(TESTS) tests/grpc

test-rest: .venv/dev tests/rest/js/node_modules tests/rest/oidc/node_modules ## the whole server behind Envoy, driven by the SDKs
	$(TESTS) tests/rest

tests/rest/%/node_modules: tests/rest/%/package-lock.json
	@if command -v npm >/dev/null; then cd tests/rest/$* && npm ci --silent --no-audit --no-fund; else echo "npm is missing: the tests that need tests/rest/$* will be skipped"; mkdir -p $@; fi
	@touch $@

bench: .venv/dev ## measure this server (PEERS=litellm,portkey beside others); see docs/performance.md
	$(BIN)/python -m tests.bench $(if $(PEERS),--peers $(PEERS)) $(BENCH)

clean: ## remove what the targets made, except the data of `make run`
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache tests/rest/*/node_modules *.egg-info
