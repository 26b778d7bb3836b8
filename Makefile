# Everything is set up inside this folder; nothing on the system is changed.
# RESPONDER_VLLM_PYTHON=/path/to/python uses an existing environment with vLLM instead of making .venv-vllm.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
RUN := .venv/bin/python
export PATH := $(PATH):$(CURDIR)/.tools/usr/bin
export PYTHON
PYTEST_FLAGS ?=
# Two workers, a file each; the live tests are one worker's, beside the last quick ones and after them (tests/conftest.py).
WORKERS := -n 2 --dist loadscope --no-loadscope-reorder

.PHONY: reference help setup setup-own setup-vllm demo test test-fast lint bench clean
.NOTPARALLEL:

help:                 ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup:                ## our environment, Prometheus, Chromium, and real vLLM on CPU
	@scripts/setup-vllm & vllm=$$!; \
	make --no-print-directory setup-own; others=$$?; \
	wait $$vllm && exit $$others

setup-vllm:           ## vLLM alone
	@scripts/setup-vllm

setup-own: .venv/.done  ## the same without vLLM
	@scripts/setup-prometheus
	@scripts/setup-chromium
	@scripts/setup-postgres
	@scripts/setup-sshd

demo: setup           ## a real incident on a real vLLM: detection, captures, report
	@$(RUN) -m demo

test: setup           ## all tests, the live ones (real vLLM, real Prometheus) included
	@$(RUN) -m pytest $(WORKERS) $(PYTEST_FLAGS)

test-fast: setup-own  ## the tests that start no vLLM
	@$(RUN) -m pytest -m "not live" $(WORKERS) $(PYTEST_FLAGS)

lint: .venv/.done     ## ruff and mypy
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

bench: setup          ## time to detect, cost of watching, footprint; prints figures
	@$(RUN) -m bench.footprint
	@$(RUN) -m bench.detection
	@$(RUN) -m bench.watch_cost

reference: .venv/.done ## docs/reference.md and schemas/ made anew from the code
	@$(RUN) -m responder reference > docs/reference.md
	@$(RUN) -m responder schema --dir schemas

clean:                ## remove everything that was set up or produced here
	rm -rf .venv .venv-vllm .tools .cache build dist *.egg-info demo-data .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/.done: pyproject.toml
	@echo "setting up: our own environment, into .venv"
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed (Debian: python3 and python3-venv)" >&2; exit 1; }
	@$(PYTHON) -m venv .venv
	@$(RUN) -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@
