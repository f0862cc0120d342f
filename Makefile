# The project's front door. Everything runs in .venv; nothing is installed system-wide.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := industrialmind shared edge gateway cloud firmware_sim
NEEDED_MB := 8000
COVERAGE_FLOOR := 85
ARGS ?=

.PHONY: help setup browser up test coverage test-demo check test-real nightly bench fmt lock proto edge-size clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv with everything the lock names

$(STAMP): requirements.lock pyproject.toml
	@free=$$(df -Pm . | awk 'NR==2 {print $$4}'); \
	if [ "$$free" -lt $(NEEDED_MB) ]; then \
	  echo "setup needs $(NEEDED_MB) MB of free disk and finds $$free MB: free some, or clone to a larger disk" >&2; exit 2; fi
	@command -v $(PYTHON) >/dev/null || { echo "setup needs Python 3.11: install it, or run make PYTHON=/path/to/python3.11" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

browser: ## Install Debian's Chromium, which the browser tests drive (root or sudo; they are skipped without it)
	@command -v chromium >/dev/null || { as=$$([ "$$(id -u)" -eq 0 ] || echo sudo); \
	  $$as apt-get update -qq && $$as apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; }
	@chromium --version 2>/dev/null

up: $(STAMP) ## Run the whole plant on this machine (ARGS="--replay FILE" and others: see industrialmind up --help)
	@$(BIN)/industrialmind up $(ARGS)

TESTS := $(BIN)/python -m pytest -m "not nightly and not real and not demo" -n 3 --dist loadscope --no-loadscope-reorder

# Three workers share the cores: libraries that compute with threads of their own would wait for each other, spinning.
test coverage: export OMP_NUM_THREADS := 1
test: $(STAMP) ## Run the tests
	$(TESTS) $(ARGS)

coverage: $(STAMP) ## Run the tests traced, in half as long again: branch coverage, with a floor a package
	@rm -f .coverage .coverage.*
	$(TESTS) --cov --cov-report= $(ARGS)
	@for package in $(PACKAGES); do \
	  echo "== $$package"; \
	  $(BIN)/python -m coverage report --include="$$package/*" --skip-covered --fail-under=$(COVERAGE_FLOOR) | tail -n 3; done

test-demo: $(STAMP) browser ## The demonstration: its models, its fault, its pages in Chromium (ARGS="--screenshots=DIR" keeps what was seen)
	$(BIN)/python -m pytest -m "demo and not nightly" $(ARGS)

check: $(STAMP) ## Lint, types, one-way imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-real: $(STAMP) ## Contract and fault suites against real servers, which it installs first (docs/how-to/run-real-servers.md)
	$(BIN)/python -m deploy.servers install
	$(BIN)/python -m pytest -m "real and not nightly" --timeout 600 $(ARGS)

nightly: coverage ## Coverage, and long seeded suites: kills, simulated machine-weeks, properties with many examples
	$(BIN)/python -m pytest tests/property --hypothesis-profile nightly --timeout 3600 $(ARGS)
	$(BIN)/python -m pytest -m nightly -s --timeout 3600 $(ARGS)

bench: $(STAMP) ## Benchmarks beside their floors, measured in the same run
	@for file in bench/*.py; do echo "== $$file"; PYTHONPATH=. $(BIN)/python $$file; done

fmt: $(STAMP) ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

UV_COMPILE = $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header --quiet

lock: ## Write requirements.lock anew from pyproject.toml, and the images' parts of it in deploy/locks
	$(UV_COMPILE) pyproject.toml --all-extras -o requirements.lock
	$(UV_COMPILE) deploy/locks/build.in -c requirements.lock -o deploy/locks/build.lock
	$(UV_COMPILE) pyproject.toml --extra edge -c requirements.lock -o deploy/locks/edge.lock
	$(UV_COMPILE) pyproject.toml --extra gateway -c requirements.lock -o deploy/locks/gateway.lock
	$(UV_COMPILE) pyproject.toml --extra cloud -c requirements.lock -o deploy/locks/cloud.lock
	$(UV_COMPILE) pyproject.toml --extra cloud --extra train -c requirements.lock -o deploy/locks/train.lock

proto: $(STAMP) ## Write the protobuf modules anew from their .proto files
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. shared/frame.proto shared/sparkplug/sparkplug_b.proto

edge-size: $(STAMP) ## Print what the edge extra takes on disk, an idle agent in memory, and the trial of a model
	PYTHONPATH=. $(BIN)/python bench/edge_size.py

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
