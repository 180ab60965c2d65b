# Everything that a laptop and CI need, without root: Python 3.11 or later, make, and a package index.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DATA ?= data
HOST ?= 127.0.0.1
PORT ?= 8888

.PHONY: up cluster test faults check format bench clean

up: $(VENV)/.installed ## serve on http://127.0.0.1:8888, data in ./data
	@exec $(BIN)/zaqar-notify up --host $(HOST) --port $(PORT) --data $(DATA)

cluster: $(VENV)/.developing ## 3 mongod, Redis, 2 API processes and 2 workers on this machine
	@exec $(BIN)/python -m deploy.local_cluster $(ARGS)

test: $(VENV)/.developing ## every test, two files at a time: most of them wait
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

faults: $(VENV)/.developing ## the crash tests: the cluster's for ZAQAR_TEST_FAULT_SECONDS (default 900), the process's for a sixth of that
	@seconds=$${ZAQAR_TEST_FAULT_SECONDS:-900}; set -ex; \
	ZAQAR_TEST_FAULT_SECONDS=$$((seconds / 6)) $(BIN)/python -m pytest -s tests/faults/test_crash.py $(ARGS); \
	ZAQAR_TEST_FAULT_SECONDS=$$seconds $(BIN)/python -m pytest -s tests/faults/test_cluster.py $(ARGS)

check: $(VENV)/.developing ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/zaqar-notify config --example | diff settings.example.env -

format: $(VENV)/.developing
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.developing ## beside a real Zaqar, 50 minutes; writes the tables in docs/performance.md
	$(BIN)/python bench/run.py $(ARGS)

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "zaqar-notify needs Python 3.11 or later; say which with make PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.developing: pyproject.toml $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group test --group check
	@touch $@
