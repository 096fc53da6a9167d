# Needs Python 3.11 or newer, make, and a package registry. `make` alone says what there is.
PYTHON ?= python3
# What is installed besides the base: see [project.optional-dependencies] in pyproject.toml.
# Heavy engines too: make setup EXTRAS=all,dev
EXTRAS ?= postgres,s3,dev
comma := ,
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))
ARGS ?=

.PHONY: help setup serve demo docs test chaos lint types check lock clean

help:  ## Say what there is
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(STAMP)  ## Make .venv with millrace in it, at the versions of requirements.lock

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; say which: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[$(EXTRAS)]'
	@rm -f $(VENV)/.installed-*
	@touch $@

serve: setup  ## Run the server; options: make serve ARGS="--port 9000 --media-root /srv/media"
	$(BIN)/millrace serve $(ARGS)

demo: setup  ## See it work: a batch of each workload; ARGS=--keep leaves the server running
	$(BIN)/millrace demo $(ARGS)

docs: $(BIN)/mkdocs  ## Build the documentation into site/; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "site/index.html is its first page"

$(BIN)/mkdocs: $(STAMP)
	test -x $@ || $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[docs]'
	@touch $@

test: setup  ## Run the tests; some of them: make test ARGS="tests/unit -k fetch"
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

chaos: setup  ## Break a cluster of the suite's own in 200 ways; some: make chaos ARGS="--iterations 20 --seed 7"
	$(BIN)/python -m tests.chaos $(ARGS)

lint: setup  ## Check style and formatting
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

types: setup  ## Check types, those of the dashboard's scripts too where npm is there
	$(BIN)/python -m mypy
	@if command -v npm >/dev/null; then \
	  cd tools/types && npm ci --silent --no-audit --no-fund && npm run --silent check && \
	  echo "tsc: no issues found"; \
	else echo "npm is not there: the dashboard's scripts are not checked"; fi

check: lint types test  ## All that a change must pass

lock: $(VENV)/bin/uv  ## Choose the newest versions anew, for all extras, into requirements.lock
	@# PyTorch is moved on by hand: each release is gigabytes and has to be tried with the models.
	echo 'torch==2.13.0' > $(VENV)/held.txt
	$(VENV)/bin/uv pip compile --quiet --constraints $(VENV)/held.txt --upgrade --all-extras --python-version 3.11 --no-header --no-annotate --no-emit-index-url --no-emit-find-links $(LOCK_ARGS) --output-file $(VENV)/resolved.txt pyproject.toml
	@# A local build of PyTorch (+cpu) stands for its release; what only CUDA builds need is left open.
	{ echo '# Versions for `make setup`, written by `make lock`: constraints, not requirements.'; \
	  grep -Ev '^(nvidia-|cuda-|triton)' $(VENV)/resolved.txt | sed 's/+cpu$$//'; } > requirements.lock

$(VENV)/bin/uv:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

clean:  ## Remove .venv and what tools leave behind
	rm -rf $(VENV) tools/types/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis htmlcov .coverage dist build site
