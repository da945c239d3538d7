# Only Python 3.11+ and make are needed. Paths are relative, so that a space in the project's own path does no harm.
.DEFAULT_GOAL := help
.PHONY: help setup run test test-deep test-browser test-clients check bench lock messages

# 3.12 and 3.11 first: the embedded Redis has wheels for these.
PYTHON ?= $(shell for name in python3.12 python3.11 python3 python3.13; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && break; done)
PY := .venv/bin/python
PIP := $(PY) -m pip --quiet --disable-pip-version-check install --require-hashes --requirement
COMPILE := $(PY) -m uv pip compile --quiet --universal --python-version 3.11.0 --generate-hashes --no-annotate --no-header

# A stamp is named after its lock file's content: another content installs again, another date does not.
RUNTIME := .venv/runtime-$(shell cksum < requirements.lock | cut -d ' ' -f 1)
TOOLS := .venv/tools-$(shell cksum < requirements-dev.lock | cut -d ' ' -f 1)

# Looked for only when it is needed.
CHROMIUM = $(or $(PERENNIAL_CHROMIUM),$(shell command -v chromium || command -v chromium-browser || command -v google-chrome))

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 15

setup: $(TOOLS) ## make the virtual environment .venv, with all tools

run: $(RUNTIME) ## start everything: servers, demo, admin, worker; Ctrl-C stops it
	@exec $(PY) manage.py run

test: $(TOOLS) ## run the tests against real servers of their own
	$(PY) -m pytest -n 2

test-deep: $(TOOLS) ## run the long tests: races, kills, large data
	$(PY) -m pytest -m deep

test-browser: $(TOOLS) ## run the admin in a headless Chromium
	@test -n "$(CHROMIUM)" || { echo "The browser tests need Chromium; on Debian: apt install chromium; or PERENNIAL_CHROMIUM=..." >&2; exit 1; }
	$(PY) -m pytest -m browser tests/browser

test-clients: $(TOOLS) ## generate a Python and a TypeScript client and run the README's tour with them (needs Node)
	@command -v npm > /dev/null || { echo "The tests of generated clients need Node with npm; on Debian: apt install npm" >&2; exit 1; }
	$(PY) -m pytest -m clients tests/clients

messages: $(TOOLS) ## collect and compile what the admin says (needs gettext)
	$(PY) manage.py makemessages -l zh_Hans --ignore '.venv/*' --ignore 'tests/*' --ignore 'bench/*' --add-location file
	msgfmt --check-format -o locale/zh_Hans/LC_MESSAGES/django.mo locale/zh_Hans/LC_MESSAGES/django.po

check: $(TOOLS) ## format, lint, import contracts, types, migrations, architecture
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	.venv/bin/lint-imports
	$(PY) -m mypy .
	$(PY) manage.py makemigrations --check --dry-run
	$(PY) -m pytest tests/architecture

bench: $(TOOLS) ## measure, each figure beside its reference
	$(PY) -m bench

lock: $(TOOLS) ## write the lock files anew from requirements*.txt
	$(COMPILE) --upgrade requirements.txt --output-file requirements.lock
	$(COMPILE) --upgrade requirements-dev.txt --constraint requirements.lock --output-file requirements-dev.lock

$(PY):
	@test -n "$(PYTHON)" || { echo "Perennial needs Python 3.11 or newer: install it, or name it with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "Python cannot make a virtual environment; on Debian: apt install python3-venv" >&2; exit 1; }

$(RUNTIME): | $(PY)
	@echo "Installing (once)..."
	@$(PIP) requirements.lock
	@rm -f .venv/runtime-* && touch $@

$(TOOLS): | $(PY)
	@echo "Installing (once)..."
	@$(PIP) requirements-dev.lock
	@rm -f .venv/runtime-* .venv/tools-* && touch $(RUNTIME) $@
