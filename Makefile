# Each command sets up what it needs in .venv; see `make help`.

# Another interpreter: `make setup PYTHON=python3.12`, after `make clean` if there is a .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Twice quiet: errors alone, as pip's warnings are about the machine's own configuration.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
# The locks are installed when these are older than them.
RUN := $(VENV)/.run-installed
DEV := $(VENV)/.dev-installed

.PHONY: help setup run test chaos check bench format lock clean

help:
	@echo "make setup    install what 'make run' needs, into $(VENV)"
	@echo "make run      run the whole gateway here; Ctrl-C stops it"
	@echo "make test     run all tests"
	@echo "make chaos    kill parts of a gateway at random while it serves (SEED=1: the same plan again)"
	@echo "make check    check format, lint, types and imports"
	@echo "make bench    run the benchmarks"
	@echo "make format   format the code and mend what the linter can mend"
	@echo "make lock     remake the locks from requirements*.in (UPGRADE=1: with the newest versions)"
	@echo "make clean    remove $(VENV) and the tools' caches"

setup: $(RUN)
	@echo "$(VENV) is ready"

# It ends with status 0 on Ctrl-C, so that make has nothing to complain about.
run: $(RUN)
	@$(BIN)/python -m local

test: $(DEV)
	@$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

chaos: $(DEV)
	@$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED))

check: $(DEV)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

bench: $(DEV)
	@$(BIN)/python -m benchmarks

format: $(DEV)
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

# uv makes locks for every platform and Python at once; nothing else needs it.
lock: $(BIN)/python
	@$(PIP) install uv
	@for name in requirements requirements-run requirements-dev; do \
		echo "$$name.in -> $$name.lock"; \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
			--no-header --no-annotate $(if $(UPGRADE),--upgrade) \
			--output-file $$name.lock $$name.in || exit; \
	done

clean:
	rm -rf $(VENV) .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "'$(PYTHON)' is not Python 3.11 or later: name one that is with PYTHON=..." >&2; \
		exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)

$(RUN): requirements-run.lock | $(BIN)/python
	@echo "installing $<"
	@$(PIP) install --require-hashes --requirement $<
	@touch $@

$(DEV): requirements-dev.lock $(RUN)
	@echo "installing $<"
	@$(PIP) install --require-hashes --requirement $<
	@touch $@
