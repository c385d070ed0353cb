# Each target makes what it needs first; a second run is instant. Result on standard output, progress on standard error.
#
#   make demo [ARGS="--once --json"]   the whole product on embedded parts
#   make test [ARGS="-k broker"]       unit, property and integration tests; real parts too when they are up
#   make check                         format, lint, types, import contracts, locks, SBOM, advisories, tests
#   make audit-dependencies            known vulnerabilities of the locked versions (needs the network)
#   make services, services-down       Apache Kafka, PostgreSQL, Chromium, Prometheus, stripe-mock for the tests
#   make mutation [ARGS="--quick"]    each small fault put into the money path must fail a test (about ten minutes)
#   make bench, soak, endurance, fuzz, docs, lock, install, clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

MAKEFLAGS += --no-print-directory --no-builtin-rules
.SUFFIXES:
.DEFAULT_GOAL := install
.PHONY: install demo test test-stripe check services services-down bench soak endurance audit-dependencies fuzz mutation docs lock clean

ROOMS := schemas pipeline streams billing tollhouse
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
MADE := $(VENV)/.made
RUNTIME := $(VENV)/.installed-runtime
DEVELOPMENT := $(VENV)/.installed-development

install: $(RUNTIME)

demo: $(RUNTIME)
	@exec $(BIN)/tollhouse demo $(ARGS)

# Three processes on two cores: much of the suite waits for brokers and databases.
test: $(DEVELOPMENT)
	@$(BIN)/python -m pytest -n 3 --dist loadscope $(ARGS)

check: $(DEVELOPMENT)
	@echo "format" >&2 && $(BIN)/ruff format --check --quiet .
	@echo "lint" >&2 && $(BIN)/ruff check --quiet .
	@echo "types" >&2 && $(BIN)/mypy
	@echo "import contracts" >&2 && $(BIN)/lint-imports --no-cache
	@echo "locks, installed files, SBOM" >&2 && $(BIN)/python scripts/supply_chain.py verify >&2
	@mkdir -p .sbom && $(BIN)/python scripts/supply_chain.py sbom .sbom/tollhouse.cdx.json >&2
	@echo "known vulnerabilities (says so where nobody can be asked)" >&2 && $(BIN)/python scripts/supply_chain.py audit
	@$(BIN)/python -m pytest -n 3 --dist loadscope $(ARGS)

# The scripts use the standard library only: they run before anything is installed.
services:
	@$(PYTHON) scripts/services.py up

services-down:
	@$(PYTHON) scripts/services.py down

bench: $(DEVELOPMENT)
	@$(BIN)/tollhouse bench $(ARGS)
	$(if $(ARGS),,@$(BIN)/tollhouse bench --gate && $(BIN)/python -m bench.local_gate)

# The contract tests of the double, against a sandbox of your own: needs STRIPE_SECRET_KEY of test mode.
test-stripe: $(DEVELOPMENT)
	@TOLLHOUSE_TEST_STRIPE_SANDBOX=1 $(BIN)/python -m pytest tests/integration/stripe/test_contract.py $(ARGS)

soak: $(DEVELOPMENT)
	@$(BIN)/python -m bench.soak $(ARGS)

# An hour of load with a fault a minute, on a Kafka, a PostgreSQL and a Prometheus of its own.
endurance: $(DEVELOPMENT)
	@$(BIN)/python -m bench.endurance $(ARGS)

# Known vulnerabilities of the locked versions: needs the network, and fails without it.
audit-dependencies: $(DEVELOPMENT)
	@$(BIN)/python scripts/supply_chain.py audit --must

fuzz: $(DEVELOPMENT)
	@$(BIN)/python -m tests.fuzz.run $(ARGS)

mutation: $(DEVELOPMENT)
	@$(BIN)/python -m bench.mutation $(ARGS)

docs: $(DEVELOPMENT)
	@$(BIN)/python scripts/reference.py >&2
	@PYTHONPATH=.:sdk $(BIN)/python scripts/operating.py >&2
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir .site >&2
	@echo "The manual is in .site/index.html" >&2

# Both locks name versions and digests, never where they come from; the runtime lock takes the versions of the other.
lock: $(DEVELOPMENT)
	@$(BIN)/python scripts/lock.py

clean:
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(MADE):
	@$(PYTHON) scripts/make_venv.py $(VENV) >&2
	@touch $@

$(RUNTIME): requirements.lock pyproject.toml sdk/pyproject.toml | $(MADE)
	@echo "install what tollhouse runs on (about a minute, once)" >&2
	@$(PIP) install --require-hashes -r requirements.lock >&2
	@$(PIP) install --no-deps --no-build-isolation -e sdk -e . >&2
	@touch $@

$(DEVELOPMENT): requirements-dev.lock requirements.lock pyproject.toml sdk/pyproject.toml | $(MADE)
	@echo "install what the tests run on (about two minutes, once)" >&2
	@$(PIP) install --require-hashes -r requirements-dev.lock >&2
	@$(PIP) install --no-deps --no-build-isolation -e sdk -e . >&2
	@touch $@ $(RUNTIME)
