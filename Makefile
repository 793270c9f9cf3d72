VENV := .venv
BIN := $(VENV)/bin
# What any Python must have to install mcp-hub; Debian ships ensurepip in a package of its own.
SOUND := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c '$(SOUND)' >/dev/null 2>&1 && echo $$p && break; done)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
.DEFAULT_GOAL := help
.PHONY: help demo install test soak lint format bench clean

help:  ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' Makefile | expand -t 10

demo: install  ## Run the main job through a real MCP client
	@$(BIN)/mcp-hub demo

install: $(VENV)/.installed  ## Make .venv and install mcp-hub into it

# A test waits for servers about as long as it computes: three at a time keep two cores busy.
test: $(VENV)/.installed-dev  ## Run the tests
	$(BIN)/python -m pytest -m "not soak" -n 3 --dist worksteal --durations=30 --durations-min=5

soak: $(VENV)/.installed-dev  ## Run the long, seeded tests
	$(BIN)/python -m pytest -m soak -s

lint: $(VENV)/.installed-dev  ## Check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy examples/custom_framework/nearest_centroid.py
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev  ## Bring the code into the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install  ## Compare mcp-hub with a bare MCP server, search by meaning with full text
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/calls.py
	$(BIN)/python benchmarks/retrieval.py --embedder wordllama

clean:  ## Remove .venv and everything built
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/.installed: pyproject.toml
	@$(or $(PYTHON),false) -c '$(SOUND)' 2>/dev/null || { \
		echo "error: mcp-hub needs Python 3.11 or newer with its venv module;" \
			"$(or $(PYTHON),python3) is $$($(or $(PYTHON),python3) --version 2>&1)." >&2; \
		echo "hint: on Debian and Ubuntu: sudo apt-get install python3-venv;" \
			"or name one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Installing mcp-hub into $(VENV): a minute or two, once."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed pyproject.toml
	@echo "Installing what the tests and checks need into $(VENV)."
	@# By itself and exactly, so that a CPU build is taken where one is offered: what needs torch
	@# would take the newest, whose CUDA libraries are gigabytes.
	@$(BIN)/python -m pip install --quiet torch==2.13.0
	@$(BIN)/python -m pip install --quiet --editable ".[all]" --group test --group lint
	@touch $@
