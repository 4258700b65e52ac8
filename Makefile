# The only door: whatever is run, tested or published goes through a target of this file, also in
# CI. Every target that needs Python packages makes .venv and installs the locked ones by itself.
# Wants Python 3.11 or later and nothing else; PYTHON=python3.12 names another one than python3.

PYTHON ?= python3
VENV := .venv
# What is passed on to the command: make test ARGS="-k cursor", make publish ARGS=--dry-run
ARGS ?=
# Tests that take seconds run side by side; ARGS="-n 0" runs them one after the other.
PARALLEL := -n 4 --dist worksteal

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Two installs into one .venv at a time would break it.
.NOTPARALLEL:
.PHONY: help run test test-all check judge fuzz demo bench publish publish-check screenshots devnet \
	lock audit clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(VENV)/installed-run ## Run the service: web and ingest together, until Ctrl-C
	@exec $(VENV)/bin/python -m server run $(ARGS)

test: $(VENV)/installed-dev ## Run the tests that take seconds
	@exec $(VENV)/bin/python -m pytest $(PARALLEL) -m "not slow and not devnet and not browser" $(ARGS)

check: $(VENV)/installed-dev ## Check format, style and types
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy

# Some of these take minutes. All stacks are shown of what hangs, and not of what takes its time:
# looking at the stacks of threads that run can crash Python.
PATIENT = -o faulthandler_timeout=1200

judge: $(VENV)/installed-dev ## Run the tests that `test` leaves out: long ones, in a browser, against the official servers
	@exec $(VENV)/bin/python -m pytest -m "slow or devnet or browser" $(PATIENT) $(ARGS)

test-all: $(VENV)/installed-dev ## Run every test
	@exec $(VENV)/bin/python -m pytest $(PATIENT) $(ARGS)

# FUZZ=1 is what `make test` does; 100 takes about an hour.
FUZZ ?= 100
fuzz: $(VENV)/installed-dev ## Try very many odd tokens, cursors, frames, records, documents, answers
	@FUZZ=$(FUZZ) exec $(VENV)/bin/python -m pytest -m fuzz -o faulthandler_timeout=0 $(ARGS)

demo: $(VENV)/installed-run ## Show a feed from a small network on this machine; needs no internet
	@exec $(VENV)/bin/python -m simnet.demo $(ARGS)

bench: $(VENV)/installed-dev ## Run the benchmarks, or one: make bench BENCH=decode
	@for bench in $(or $(BENCH),$(sort $(filter-out __%,$(basename $(notdir $(wildcard benchmarks/*.py)))))); do \
		echo "== $$bench"; $(VENV)/bin/python -m benchmarks.$$bench $(ARGS) || exit; done

publish: $(VENV)/installed-run ## Publish the feeds, or bring their records up to date
	@exec $(VENV)/bin/python publish_feed.py publish $(ARGS)

publish-check: $(VENV)/installed-run ## Say what `publish` would change; fail if that is anything
	@exec $(VENV)/bin/python publish_feed.py check $(ARGS)

screenshots: $(VENV)/installed-dev ## Take the pictures in docs/images anew; needs Chromium
	@exec $(VENV)/bin/python -m tests.browser.screenshots

devnet: $(VENV)/installed-dev ## Run the official servers on this machine, until Ctrl-C
	@exec $(VENV)/bin/python -m tests.devnet $(ARGS)

# Keeps the versions that are locked; ARGS=--upgrade takes the newest that pyproject.toml allows.
LOCK = $(VENV)/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--generate-hashes --no-header --no-emit-index-url --no-emit-find-links
lock: $(VENV)/installed-dev ## Lock the packages that pyproject.toml names
	@$(LOCK) $(ARGS) --output-file requirements.txt
	@$(LOCK) $(ARGS) --extra dev --constraint requirements.txt --output-file requirements-dev.txt

# Asks the package index's list of known vulnerabilities: needs the internet. A package that could
# not be looked up fails it too, or an outage would look like good news.
AUDITOR ?= pip-audit@2.10.1
audit: $(VENV)/installed-dev ## Look the locked packages up among known vulnerabilities
	@for lock in requirements.txt requirements-dev.txt; do \
		echo "== $$lock"; $(VENV)/bin/uv tool run --quiet $(AUDITOR) --strict --disable-pip \
			--require-hashes --progress-spinner off -r $$lock || { \
			echo "The audit failed: a package has a known vulnerability, or could not be looked up." >&2; \
			exit 1; }; done

clean: ## Remove .venv and all caches; data and settings stay
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/devnet/.state tests/browser/.state
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Makes .venv if there is none, if it was only half made, or if its Python is gone or too old.
define MAKE_VENV
$(VENV)/bin/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Gapless needs Python 3.11 or later; $(PYTHON) is: $$($(PYTHON) --version 2>&1)" >&2; \
		echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make a virtual environment: its modules venv and ensurepip are missing." >&2; \
		echo "On Debian and Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; }; \
	echo "Making $(VENV)" >&2; $(PYTHON) -m venv --clear $(VENV); }
endef

# The stamps hang on the interpreter too: where it was replaced, the packages may not fit it.
$(VENV)/bin/python: ;
$(VENV)/installed-run: requirements.txt $(VENV)/bin/python
$(VENV)/installed-dev: requirements-dev.txt $(VENV)/bin/python
$(VENV)/installed-%:
	@$(MAKE_VENV)
	@echo "Installing $<" >&2
	@$(VENV)/bin/python -m pip install -qq --disable-pip-version-check --no-input --require-hashes -r $<
	@touch $@
