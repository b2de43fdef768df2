# Everything a newcomer needs on a fresh Debian 12, as root: `make` teaches the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
.NOTPARALLEL:

STATE ?= /var/lib/moorage
UV_VERSION := 0.13.8
BIN := .venv/bin
UV := $(BIN)/uv
# Tests choose their own ports: those of a Moorage that is up don't matter to them.
DOCTOR := MOORAGE_PORT=0 MOORAGE_KEYSTONE_PORT=0 MOORAGE_METRICS_PORT=0 MOORAGE_SIGN_IN_PORT=0 \
	$(BIN)/moorage doctor
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# A venv that is active in the caller's shell is not the one that is meant here.
unexport VIRTUAL_ENV
# Bytecode is kept, whatever the caller's environment says: compiling anew, a server starts in
# seconds, and so does each call of OpenStack's client.
unexport PYTHONDONTWRITEBYTECODE

##@ See it
.PHONY: demo demo-down
demo: install clients ## Install what is missing, start Moorage, show the main job on real engines
	@$(BIN)/moorage demo --state $(STATE)

demo-down: install ## Remove Moorage, its clusters and all that they left on this machine
	@$(BIN)/moorage down --purge --yes --state $(STATE)

##@ Check it
# What a recipe has begun beside itself ends with it; that it has ended by then is no failure.
BESIDE := build=$$!; trap 'kill $$build 2>/dev/null || true' EXIT

.PHONY: test lint unit real test-slow test-kubernetes bench bench-scale
test: lint ## Lint and types, the fast tests, and those on real engines
	@# Kubernetes is built meanwhile, once, at the lowest priority: what fails is told by its tests.
	@nice -n 19 scripts/kubernetes >/dev/null 2>&1 & $(BESIDE); \
	    $(MAKE) unit && $(MAKE) real

lint: install ## Style, types and the walls between the rooms
	@echo "==> ruff"; $(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check . \
	    || { echo "mend it: $(BIN)/ruff check --fix . && $(BIN)/ruff format ."; exit 1; }
	@echo "==> mypy"; $(BIN)/mypy --no-error-summary
	@echo "==> import walls"; $(BIN)/lint-imports --no-logo \
	    || { echo "docs/architecture.md says which room may import which"; exit 1; }

unit: install clients ## The fast tests, which make nothing on this machine
	@echo "==> fast tests"; n=$$(nproc); \
	    $(BIN)/pytest -q -m "not real" -n $$((n < 4 ? n : 4)) --dist loadfile

# Each worker is on a machine of its own, as it seems to it; a file's tests stay with one.
LANES ?= $$(n=$$(nproc); echo $$((n < 4 ? n : 4)))
REAL = $(BIN)/pytest --dist loadfile --no-loadscope-reorder \
	--tx "$(LANES)*popen//python=scripts/lane $(BIN)/python"

real: install clients ## The tests that make real nodes and engines (as root; minutes)
	@[ "$$(id -u)" -eq 0 ] || { echo "the tests on real engines need root: sudo make real"; exit 1; }
	@$(DOCTOR) >/dev/null || { $(DOCTOR); exit 1; }
	@# A lane leads nowhere: what the build installs and fetches is fetched out here.
	@scripts/kubernetes >/dev/null & $(BESIDE); \
	    echo "==> tests on real engines"; \
	    $(REAL) -m "real and not slow and not kubernetes" --durations=20

test-kubernetes: install clients .venv-kubernetes/.installed ## All on clusters of real Kubernetes, built first where it is not there (as root)
	@[ "$$(id -u)" -eq 0 ] || { echo "these tests need root: sudo make test-kubernetes"; exit 1; }
	@$(DOCTOR) >/dev/null || { $(DOCTOR); exit 1; }
	@scripts/kubernetes >/dev/null
	@echo "==> the tests on real Kubernetes"; \
	    $(REAL) -m "not slow" --durations=10 tests/real/test_kubernetes*.py

test-slow: install clients .venv-kubernetes/.installed ## The tests that take many minutes: kills and power cuts without end (as root)
	@[ "$$(id -u)" -eq 0 ] || { echo "these tests need root: sudo make test-slow"; exit 1; }
	@scripts/kubernetes >/dev/null
	@echo "==> the slow tests"; $(REAL) -m slow --durations=10

bench: install clients ## Speed and memory against plain scripts, as a table (docs/performance.md)
	@command -v wrk >/dev/null || apt-get -qq -y install wrk >/dev/null
	@$(BIN)/python -m bench

bench-scale: install .venv-plot/.installed ## 10 to 10,000 clusters of ten fake nodes: figures and docs/scale.svg
	@$(BIN)/python -m bench.scale --write
	@.venv-plot/bin/python -m bench.plot

##@ Install it
.PHONY: install packages clients kubernetes lock clean
install: packages .venv/.installed ## Debian packages that are missing, and .venv

packages:
	@scripts/packages

.venv/.installed: requirements.lock pyproject.toml
	@echo "==> .venv: Python packages (about a minute)"
	@[ -x $(BIN)/python ] && $(BIN)/python -c '' 2>/dev/null || "$$(scripts/python)" -m venv --clear .venv
	@[ -x $(UV) ] || $(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	@$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes \
	    -r requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

# Clients that we didn't write, each from its package in an environment of its own. Those of
# Kubernetes are large, and made where its tests run.
CLIENTS := clients old-client sdk

clients: $(CLIENTS:%=.venv-%/.installed) ## OpenStack's own clients, in .venv-clients and others

.venv-%/.installed: requirements-%.lock | .venv/.installed
	@echo "==> .venv-$*: $$(sed -n '/^[^#]/p' requirements-$*.in | paste -sd ' ')"
	@$(UV) venv --quiet --clear --python $(BIN)/python .venv-$*
	@$(UV) pip install --quiet --python .venv-$*/bin/python --require-hashes -r $<
	@touch $@

kubernetes: ## Kubernetes 1.20.2 from Debian's sources, kept in ~/.cache (minutes, once)
	@made=$$(scripts/kubernetes); echo "moorage release add kubernetes $$made"

COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --custom-compile-command "make lock"
lock: install ## Pin the newest versions of what pyproject.toml and requirements-*.in name
	@$(COMPILE) --upgrade --extra dev pyproject.toml -o requirements.lock
	@for name in $(CLIENTS) kubernetes plot; do \
	    $(COMPILE) --upgrade requirements-$$name.in -o requirements-$$name.lock; done

clean: ## Remove the virtual environments and the caches (clusters stay: make demo-down)
	@rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	    .import_linter_cache dist

.PHONY: help
help:
	@echo "Moorage: a multi-tenant container cloud in one install."
	@echo "On a fresh Debian 12, as root:  make demo"
	@awk 'BEGIN {FS = ":.*## "} \
	    /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	    /^[a-z-]+:.*## / {printf "  make %-15s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "Elsewhere than $(STATE):  make demo STATE=/some/where"
	@echo "The commands themselves:  $(BIN)/moorage --help"
