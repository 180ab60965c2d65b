# Everything that a laptop and CI need, without root: Python 3.11 or later, make, and a package index.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check
COMPILE = $(BIN)/uv --quiet pip compile --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock"
DATA ?= data
HOST ?= 127.0.0.1
PORT ?= 8888
NOTES = build/operations.json

.PHONY: help up cluster test faults check format settings compatibility bench lock pin clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

up: $(VENV)/.installed ## serve on http://127.0.0.1:8888 (PORT=8888), data in ./data (DATA=data)
	@exec $(BIN)/zaqar-notify up --host $(HOST) --port $(PORT) --data $(DATA)

cluster: $(VENV)/.developing ## 3 mongod, Redis, 2 API processes and 2 workers on this machine, serving on the same port (PORT=8888)
	@exec $(BIN)/python -m deploy.local_cluster --port $(PORT) $(ARGS)

test: $(VENV)/.developing ## every test, three files at a time: most of them wait
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder --note-operations $(NOTES) $(ARGS)

faults: $(VENV)/.developing ## the crash tests: the cluster's for ZAQAR_TEST_FAULT_SECONDS (default 900), the process's and those of moves for a sixth of that
	@seconds=$${ZAQAR_TEST_FAULT_SECONDS:-900}; set -ex; \
	ZAQAR_TEST_FAULT_SECONDS=$$((seconds / 6)) $(BIN)/python -m pytest -s tests/faults/test_crash.py $(ARGS); \
	ZAQAR_TEST_FAULT_SECONDS=$$((seconds / 6)) $(BIN)/python -m pytest -s tests/faults/test_moves.py $(ARGS); \
	ZAQAR_TEST_FAULT_SECONDS=$$seconds $(BIN)/python -m pytest -s tests/faults/test_cluster.py $(ARGS)

check: $(VENV)/.developing ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/zaqar-notify config --example | diff settings.example.env -
	$(BIN)/zaqar-notify config --markdown | diff docs/settings.md -

format: $(VENV)/.developing ## let ruff put right what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

settings: $(VENV)/.developing ## write docs/settings.md and settings.example.env
	$(BIN)/zaqar-notify config --markdown >docs/settings.md
	$(BIN)/zaqar-notify config --example >settings.example.env

compatibility: $(VENV)/.developing ## write docs/compatibility.md from the last `make test`; ARGS=--check only compares
	$(BIN)/python -m tests.compatibility $(ARGS) $(NOTES)

bench: $(VENV)/.developing ## beside a real Zaqar, 60 minutes; writes the tables in docs/performance.md
	$(BIN)/python bench/run.py $(ARGS)

lock: $(VENV)/.developing ## renew lock/ after a change of pyproject.toml; ARGS=--upgrade takes the newest of everything
	$(COMPILE) --annotation-style line pyproject.toml --extra openstack --group build --group test --group check --output-file lock/all.txt $(ARGS)
	$(COMPILE) --no-annotate pyproject.toml --extra openstack --constraint lock/all.txt --output-file lock/run.txt
	$(COMPILE) --no-annotate --group build --constraint lock/all.txt --output-file lock/build.txt

pin: $(VENV)/.installed ## add digests to the tags of the images, where their registry answers
	@$(BIN)/python -m deploy.pin

clean: ## remove the environment and what tools left
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "zaqar-notify needs Python 3.11 or later; say which with make PYTHON=…"; exit 1; }
	@# Without pip, as Debian's Python makes it where python3-venv is missing, it would be half an environment.
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: pyproject.toml lock/build.txt lock/run.txt | $(BIN)/python
	$(INSTALL) --require-hashes --requirement lock/build.txt --requirement lock/run.txt
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.developing: lock/all.txt $(VENV)/.installed
	$(INSTALL) --require-hashes --requirement lock/all.txt
	@touch $@
