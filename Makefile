# `make setup` makes .venv, `make demo` shows ticklake at work, `make test` and `make lint` are what CI runs.
# Another Python than the one tools/find-python finds: make setup PYTHON=/path/to/python3.13

VENV := .venv
BIN := $(VENV)/bin
PIP := python -m pip --disable-pip-version-check --no-input
# Two cores take three workers without starving the tests that hold deadlines; for more: make test WORKERS=8
WORKERS ?= 3
PYTEST_ARGS ?=
MINUTES ?= 10

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format lock bench soak notebook clean

help:
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## make .venv from the hashed lock file, and install ticklake into it

demo: setup ## write a synthetic lake, run backtests on it, show the report
	$(BIN)/ticklake demo

test: setup ## run the whole test suite
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist loadfile $(PYTEST_ARGS)

soak: setup ## let four processes work on one catalog for MINUTES, with faults, kills and overwriters
	PYTHONPATH=tests $(BIN)/python -m soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

notebook: setup ## execute docs/tutorial.ipynb again, and write its outputs where they changed
	PYTHONPATH=tests $(BIN)/python -m notebook_support

lint: setup ## check style, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## put the code into the house style
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

# An environment of its own: what is compared with is not beside what is developed.
bench: $(VENV)-bench/.installed ## measure ticklake against its peers; QUICK=1 takes a tenth of the time
	$(VENV)-bench/bin/python -m benchmarks $(if $(QUICK),--quick)

# Only hashes and pins go into the lock files: which index serves them is the installing machine's own affair.
# UPGRADE=--upgrade moves pins to the newest releases; without it those that still fit are kept.
COMPILE = $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.13 --generate-hashes \
	--only-binary :all: --custom-compile-command 'make lock' $(UPGRADE)
lock: setup ## write the lock files anew from pyproject.toml
	$(COMPILE) pyproject.toml --output-file requirements/runtime.txt
	$(COMPILE) pyproject.toml --output-file requirements/dev.txt --constraints requirements/runtime.txt --group dev
	$(COMPILE) pyproject.toml --output-file requirements/bench.txt --constraints requirements/runtime.txt --group bench
	$(COMPILE) requirements/v1.in --output-file requirements/v1.txt

clean: ## remove everything that make has made, the demo and its runs included
	rm -rf $(VENV) $(VENV)-bench $(VENV)-v1 demo screenshots dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# A stamp is written last, so an interrupted setup is taken up again. Wheels only: building a source
# distribution would bring in build tools that no hash covers.
define make-venv
@python=$$(tools/find-python) && echo "Setting up $(@D) with $$python" && "$$python" -m venv --clear $(@D)
$(@D)/bin/$(PIP) install --quiet --require-hashes --only-binary :all: -r $<
@touch $@
endef

define install-ticklake
$(@D)/bin/$(PIP) install --quiet --no-deps --no-build-isolation --editable .
@touch $@
endef

$(VENV)/.locked: requirements/dev.txt tools/find-python
	$(make-venv)

$(VENV)-bench/.locked: requirements/bench.txt tools/find-python
	$(make-venv)

# NautilusTrader 1.x, which cannot be beside 2.x: the tests ask for it, and skip what needs it where it cannot be had.
$(VENV)-v1/.locked: requirements/v1.txt tools/find-python
	$(make-venv)

$(VENV)/.installed $(VENV)-bench/.installed: %/.installed: %/.locked pyproject.toml
	$(install-ticklake)
