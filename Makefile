# Each command installs what it needs into .venv; see `make help`.

# Another interpreter: `make setup PYTHON=python3.12`, after `make clean` if there is a .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Twice quiet: only errors, since pip's warnings are about the machine's own configuration.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
# Stamps: a lock is installed again when it is newer than its stamp.
RUN := $(VENV)/.run-installed
DEV := $(VENV)/.dev-installed
# Clients for the tests, in an environment of their own.
CLIENTS := .clients
CLIENTS_PIP := $(CLIENTS)/bin/python -m pip --disable-pip-version-check --quiet --quiet install \
	--no-compile
# A real llama.cpp server, for `make run UPSTREAM=llama` and the tests, likewise.
LLAMA := .llama
# There while packages are being installed, and so after a command that was killed meanwhile.
UNFINISHED := $(VENV)/.unfinished

.PHONY: help setup run test fuzz clients chaos check english bench format lock clean

help:
	@echo "make setup    install what 'make run' needs, into $(VENV)"
	@echo "make run      run the whole gateway here; Ctrl-C stops it (UPSTREAM=llama: with a real"
	@echo "              llama.cpp server, whose tiny model is random, instead of the simulator)"
	@echo "make test     run all tests"
	@echo "make fuzz     feed made-up input to all that reads input of strangers, for a minute each"
	@echo "              (FUZZ_SECONDS=300: five; SURFACE=sse: only one, by its file in tests/fuzz)"
	@echo "make clients  run apps (6 GB) against the gateway, Open WebUI in Chromium among them"
	@echo "make chaos    kill parts of a gateway at random while it serves (SEED=1: the same plan"
	@echo "              again; UPSTREAM=openai: in front of an OpenAI-compatible server)"
	@echo "make check    check format, lint, types, imports and Lua scripts"
	@echo "make english  check the English of code and documents"
	@echo "make bench    run the benchmarks"
	@echo "make format   format the code and apply the fixes of the linter"
	@echo "make lock     remake the locks from requirements*.in (UPGRADE=1: with the newest versions)"
	@echo "make clean    remove $(VENV) and the tools' caches"

setup: $(RUN)
	@echo "$(VENV) is ready"

# It exits with status 0 on Ctrl-C, so that make reports no error.
run: $(RUN) $(if $(filter llama,$(UPSTREAM)),$(LLAMA)/.installed)
	@$(BIN)/python -m local $(if $(UPSTREAM),--upstream $(UPSTREAM))

# Tests start hundreds of processes: each is compiled once, whatever the environment says. They wait
# more than they compute: five at a time keep two cores busy.
test: $(DEV) $(CLIENTS)/.installed $(LLAMA)/.installed
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 5 --dist loadfile --no-loadscope-reorder

fuzz: $(DEV)
	@FUZZ_SECONDS=$(or $(FUZZ_SECONDS),60) $(BIN)/python -m pytest --override-ini \
		faulthandler_timeout=0 tests/fuzz$(if $(SURFACE),/test_$(SURFACE).py)

clients: $(DEV) $(CLIENTS)/.apps-installed $(CLIENTS)/.web-installed
	@$(BIN)/python tests/clients/apps.py
	@$(CLIENTS)/web/bin/python tests/clients/open_webui.py

chaos: $(DEV)
	@$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(UPSTREAM),--upstream $(UPSTREAM))

check: $(DEV)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m tests.english
	@$(BIN)/python -m tests.lua

english: $(DEV)
	@$(BIN)/python -m tests.english

bench: $(DEV)
	@$(BIN)/python -m benchmarks

format: $(DEV)
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

# uv makes locks for all platforms and Pythons at once; nothing else needs it.
lock: $(BIN)/python
	@$(PIP) install uv
	@for name in requirements requirements-otel requirements-run requirements-dev requirements-llama \
			requirements-clients requirements-clients-old; do \
		case $$name in *-old) deps=--no-deps ;; esac; \
		echo "$$name.in -> $$name.lock"; \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
			--no-header --no-annotate $(if $(UPGRADE),--upgrade) $$deps \
			--output-file $$name.lock $$name.in || exit; \
	done

clean:
	rm -rf $(VENV) $(CLIENTS) $(LLAMA)
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "'$(PYTHON)' is not Python 3.11 or later: name another one with PYTHON=..." >&2; \
		exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)

# Install the lock that a stamp depends on. What a killed command has left half-made is made anew.
define install
	@if [ -e $(UNFINISHED) ] || ! $(BIN)/python -m pip --version > /dev/null 2>&1; then \
		echo "making $(VENV) again, since it is not complete"; \
		$(PYTHON) -m venv --clear $(VENV); \
	fi
	@touch $(UNFINISHED)
	@echo "installing $<"
	@$(PIP) install --require-hashes --requirement $< || { rm -f $(UNFINISHED); exit 1; }
	@rm $(UNFINISHED)
	@touch $@
endef

$(RUN): requirements-run.lock | $(BIN)/python
	$(install)

$(DEV): requirements-dev.lock $(RUN)
	$(install)

$(CLIENTS)/.installed: requirements-clients.lock requirements-clients-old.lock
	@echo "installing $<"
	@$(PYTHON) -m venv --clear $(CLIENTS)
	@$(CLIENTS_PIP) --require-hashes --requirement requirements-clients.lock
	@$(CLIENTS_PIP) --require-hashes --requirement requirements-clients-old.lock --no-deps \
		--target $(CLIENTS)/old
	@touch $@

$(LLAMA)/.installed: requirements-llama.lock
	@echo "installing $<"
	@$(PYTHON) -m venv --clear $(LLAMA)
	@$(LLAMA)/bin/python -m pip --disable-pip-version-check --quiet --quiet install --no-compile \
		--require-hashes --requirement $<
	@touch $@

# These apps have no lock: each has hundreds of packages, and the newest ones are what people run.
$(CLIENTS)/.apps-installed: | $(CLIENTS)/.installed
	@for app in aider:aider-chat astrbot:astrbot; do \
		echo "installing $${app#*:}"; \
		$(PYTHON) -m venv --clear $(CLIENTS)/$${app%:*} && \
		$(CLIENTS)/$${app%:*}/bin/python -m pip --disable-pip-version-check --quiet --quiet \
			install $${app#*:} || exit; \
	done
	@echo "installing packages from npm"
	@mkdir -p $(CLIENTS)/npm
	@npm install --prefix $(CLIENTS)/npm --no-audit --no-fund --silent @ai-sdk/openai ai \
		@anthropic-ai/claude-code @fortaine/fetch-event-source @microsoft/fetch-event-source \
		@openai/codex openai opencode-ai
	@touch $@

$(CLIENTS)/.web-installed: | $(CLIENTS)/.installed
	@echo "installing Open WebUI"
	@$(PYTHON) -m venv --clear $(CLIENTS)/web
	@$(CLIENTS)/web/bin/python -m pip --disable-pip-version-check --quiet --quiet install \
		'torch==2.13.0' open-webui playwright
	@touch $@
