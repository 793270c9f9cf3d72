PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo install test soak lint format bench clean

demo: install  ## Run the main job through a real MCP client
	$(BIN)/python -m mcp_hub demo

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --group test --group lint
	touch $@

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not soak"

soak: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m soak -s

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
