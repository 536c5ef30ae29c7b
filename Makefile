# make demo    the whole loop on this machine, from nothing
# make test    every test, real engine included
# make check   what CI runs: format, lint, types, layers, tests
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
DEMO ?= demo
BIN := $(VENV)/bin
# Two thirds of the time of a story are waiting: twice as many workers as cores, up to sixteen. tests/conftest.py orders the tests
# and says which of them share a worker.
SPREAD := --dist loadscope --no-loadscope-reorder
WORKERS ?= -n $(shell n=$$(nproc); echo $$((n < 8 ? 2 * n : 16))) $(SPREAD)
COMPUTE ?= -n logical $(SPREAD)
READY := $(VENV)/.ready
export DRAFTSMITH_TARGET ?= $(CURDIR)/.cache/demo-target

.PHONY: gpu-pack service-demo demo test quick deep pure check lint format docs venv target clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(READY) ## the whole loop on this machine, from nothing, in the folder demo/
	$(BIN)/draftsmith demo $(DEMO)

service-demo: $(READY) target ## the service on this machine under load: trained, promoted, fallen back, swapped (about 40 minutes)
	$(BIN)/python benchmarks/service_demo.py service-demo --target $(DRAFTSMITH_TARGET)

test: $(READY) target ## every test, real engine included
	.ci/test.sh $(BIN)/python $(WORKERS) $(PYTEST_ARGS)

quick: $(READY) ## the tests that start neither an engine nor a scheduler
	$(BIN)/python -m pytest $(WORKERS) -m "not engine and not slurm" $(PYTEST_ARGS)

deep: $(READY) ## the properties on four times as many examples, for a night
	DRAFTSMITH_DEEP=1 $(BIN)/python -m pytest $(COMPUTE) -m "not engine and not slurm and not story" $(PYTEST_ARGS)

pure: $(READY) ## the tests of an inner loop, without whole loops and programs of others: about two minutes
	$(BIN)/python -m pytest $(COMPUTE) -m "not engine and not slurm and not story and not foreign" $(PYTEST_ARGS)

lint: $(READY) ## format, lint, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test ## what CI runs

format: $(READY) ## rewrite the code in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY) ## write the tables of docs/configuration.md and docs/profile.md from the code
	$(BIN)/python tests/docs/settings_page.py
	$(BIN)/python tests/docs/formats_page.py

venv: $(READY) ## .venv with everything; other targets make it when they need it

target: $(DRAFTSMITH_TARGET)/config.json ## the small model that engine tests serve

$(READY): pyproject.toml constraints/dev.txt .ci/venv.sh
	.ci/venv.sh "$(PYTHON)" $(VENV)
	@touch $@

$(DRAFTSMITH_TARGET)/config.json: | $(READY)
	$(BIN)/draftsmith demo-target $(@D)

gpu-pack: ## all that a GPU host without a network needs, in parts: make gpu-pack DEST=folder [PACK="--model FOLDER"]
	deploy/gpu/pack.sh "$(DEST)" $(PACK)

clean: ## remove .venv, caches and the demo
	rm -rf $(VENV) .cache demo .mypy_cache .ruff_cache .import_linter_cache .hypothesis
