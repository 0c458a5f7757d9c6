# One door to everything: `make help` lists the rooms.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
export PYTHON
BIN := .venv/bin

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: ## install the trading core into .venv and replay real days to the end; ARGS="..." is passed on
	@.ci/venv core
	@$(BIN)/finagent orchestrate $(ARGS)

.PHONY: test
test: ## everything a change must pass, with the time of each part (12 minutes at most on 2 cores)
	@.ci/test

.PHONY: check
check: ## the quick part of it: lint, types, import law, unit tests
	@.ci/venv dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -n 2 tests/unit tests/architecture

.PHONY: format
format: ## put the source in its one form
	@.ci/venv dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: proof
proof: ## the long forms (10,000 kills, benchmarks, equal replays); answers with command, commit and machine in docs/proof/
	@.ci/venv dev
	@$(BIN)/python .ci/proof.py $(ONLY)

.PHONY: image
image: ## build the container image and run it once (docker, podman, or buildah without an engine)
	@.ci/image

.PHONY: constraints
constraints: ## write down the versions that .venv holds now
	@{ sed -n '/^#/p' .ci/constraints.txt; $(BIN)/python -m pip freeze --exclude-editable | grep -Ev '^(torch|nvidia|triton|mlflow|captum)'; } > .ci/constraints.new
	@mv .ci/constraints.new .ci/constraints.txt

.PHONY: clean
clean: ## remove .venv, caches and reports; never var/, where the ledger is
	rm -rf .venv .coverage-data .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
