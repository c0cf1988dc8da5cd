# Every command runs in a virtual environment of its own, made on first use and made anew when
# pyproject.toml changes; the Python it is made from is left alone.
#
#   make demo      what the package does, in two minutes
#   make test      the tests                      make test PYTEST_ARGS="-k cmcd"
#   make test-fast the contract and one case of every identity, in about a minute
#   make lint      style, imports and types
#   make docs      the documentation, in docs/_build/html
#   make look      the built documentation in a browser, with a picture of each page
#   make bench     the benchmarks
#   make help      these lines
#   make clean     remove the environment and all build outputs
#
# Another Python, beside the first:  make test VENV=.venv-3.12 PYTHON=python3.12

VENV ?= .venv
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$python; break; }; done)
PYTEST_ARGS ?=

BIN := $(VENV)/bin

# Bytecode is kept even where Python is told to write none, as in many containers: each of the few
# dozen processes that test examples and pages would compile thousands of modules.
unexport PYTHONDONTWRITEBYTECODE

# The first lines of this file.
help:
	@sed -n '/^$$/q; s/^# \{0,1\}//p' Makefile

.PHONY: help demo test test-fast lint docs look bench clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

# What was compiled is kept, also programs that took less than a second: a second run starts sooner.
demo: export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.jax_cache
demo: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0

demo: $(VENV)/.core
	$(BIN)/python -m numpyro_bridge

# Most of the time goes into compiling, which keeps little more than one core busy: two workers.
# Each begins with one half of the files and later takes over from the other, so that the tests of a
# file, which share what they compile, mostly run in one worker.
PYTEST = $(BIN)/python -m pytest -n 2 --dist worksteal

# What the fast tests compile is kept and read back by their next run; another JAX finds nothing there.
test-fast: export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.jax_cache

test: $(VENV)/.test
	$(PYTEST) $(PYTEST_ARGS)

test-fast: $(VENV)/.test
	$(PYTEST) -m fast $(PYTEST_ARGS)

lint: $(VENV)/.test $(VENV)/.lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

look: $(VENV)/.look
	$(BIN)/python .ci/look.py

bench: $(VENV)/.core
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist docs/_build .jax_cache .pytest_cache .ruff_cache

# Modules are compiled when they are first imported, and those that nobody imports never.
INSTALL = $(BIN)/python -m pip install --quiet --no-compile --editable

# .core marks the environment with the package itself; .test, .lint, .docs and .look one extra each.
$(VENV)/.core: pyproject.toml
	@$(or $(PYTHON),$(error No Python 3.11 or newer with venv and ensurepip was found: \
		install one, or name it with PYTHON=/path/to/python)) -m venv --clear $(VENV)
	$(INSTALL) .
	@touch $@

$(VENV)/.%: $(VENV)/.core
	$(INSTALL) '.[$*]'
	@touch $@

# All that `.ci/run` needs at once, which is sooner than one after the other.
$(VENV)/.checks: $(VENV)/.core
	$(INSTALL) '.[test,lint,docs,look]'
	@touch $(addprefix $(VENV)/,.test .lint .docs .look .checks)
