# make demo       train, sample and measure a diffusion model (EDM) of handwritten digits: python run.py
# make test       the quick tests            make test-slow  those that take minutes
# make test-faults    signals, kills and other faults at many moments, with their counts
# make test-cluster   those that need SLURM, which it starts and stops (as root, with Debian's slurm-wlm and munge)
# make docs       the documentation as a site, in site/: open site/index.html; every link is checked
# make lint       ruff and mypy              make clean      remove the environment and what tools left behind
#
# make results    train and measure every row of docs/results.md that is missing, two at a time; ARGS="--left" says the hours
# make results-check  measure again what it left, and compare
#
# make bench      speed beside the best peers         make bench-quick  its short rows, against the stored results
# make notes      measure the quick sections of docs/notes anew, and write its pages      make notes-full  the long ones
# make audit      known vulnerabilities of what is installed, by pip-audit, which asks the package index for them
#
# TORCH=cpu installs PyTorch's builds without CUDA, from PyTorch's own index, which uv knows: 1.2 GB in place of 5.6.
# PYTHON=/path/to/python3.12 chooses the interpreter, VENV=folder the environment, ARGS="..." goes to run.py or to pytest.
# CONSTRAINTS=hashes.txt installs the very files that were tested, each compared with its SHA-256, as CI does; `make hashes`
# writes that file anew from constraints.txt.

# Python may keep what it has compiled of this package: tests start hundreds of processes, half a second each.
unexport PYTHONDONTWRITEBYTECODE

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.PHONY: demo test test-slow test-faults test-cluster results results-check bench bench-quick notes notes-full docs lint audit hashes \
	clean

VENV := .venv
COMMA := ,
ARGS :=
CONSTRAINTS := constraints.txt
TORCH :=
IN_RANGE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
# Each is tried by running it: pyenv puts names on the PATH that start nothing.
PYTHON := $(shell for name in python3 python python3.12 python3.11 python3.13; do \
	$$name -c '$(IN_RANGE)' >/dev/null 2>&1 && echo $$name && break; done)
PACKAGE := setup.cfg pyproject.toml $(CONSTRAINTS)

demo: $(VENV)/.demo
	$(VENV)/bin/python run.py $(ARGS)

test: $(VENV)/.test
	$(VENV)/bin/python -m pytest -q -n logical --maxprocesses 4 --dist loadfile $(ARGS)

test-slow: $(VENV)/.test
	$(VENV)/bin/python -m pytest -q -m slow -n logical --maxprocesses 4 --dist worksteal $(ARGS)

test-faults: $(VENV)/.test
	$(VENV)/bin/python -m pytest -q -s -m 'slow or not slow' $(ARGS) tests/faults

test-cluster: $(VENV)/.test
	@sh tests/cluster/slurm.sh check
	@$(call install,.[test$(COMMA)slurm])
	$(VENV)/bin/python -m pytest -q -rs -m cluster tests/cluster $(ARGS)

results: $(VENV)/.test $(VENV)/.bench
	$(VENV)/bin/python -m benchmarks.recipes $(ARGS)

results-check: $(VENV)/.test
	$(VENV)/bin/python -m benchmarks.recipes --check $(ARGS)

bench: $(VENV)/.bench
	$(VENV)/bin/python benchmarks/suite.py $(ARGS)

bench-quick: $(VENV)/.bench
	$(VENV)/bin/python benchmarks/suite.py --quick $(ARGS)

notes: $(VENV)/.test
	$(VENV)/bin/python benchmarks/notes $(ARGS)

notes-full: $(VENV)/.test
	$(VENV)/bin/python benchmarks/notes --full $(ARGS)

docs: $(VENV)/.test
	@$(call install,.[docs])
	$(VENV)/bin/mkdocs build --strict

lint: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

audit: $(VENV)/.test
	$(VENV)/bin/python -m uv tool run pip-audit --strict --disable-pip --no-deps --requirement \
		<($(VENV)/bin/python -m uv pip freeze --python $(VENV)/bin/python --exclude-editable)

hashes: | $(VENV)/.uv
	$(VENV)/bin/python -m uv pip compile --quiet setup.cfg --extra test --constraints constraints.txt --universal \
		--python-version 3.11 --generate-hashes --no-annotate --custom-compile-command 'make hashes' --output-file hashes.txt

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.demo: $(PACKAGE) | $(VENV)/.uv
	@$(call install,.[features])
	touch $@

# Many tests start processes of their own, each of which would compile torch's modules again where Python may not write.
$(VENV)/.test: $(PACKAGE) | $(VENV)/.uv
	@export UV_COMPILE_BYTECODE=1; $(call install,.[test])
	touch $@ $(VENV)/.demo

$(VENV)/.bench: $(PACKAGE) | $(VENV)/.uv
	@$(call install,.[bench])
	touch $@

$(VENV)/.uv:
	@if [ -z "$(PYTHON)" ]; then \
		echo "error: no Python 3.11, 3.12 or 3.13 is on the PATH: make PYTHON=/path/to/python3.12" >&2; exit 2; fi
	@if ! found=$$("$(PYTHON)" --version 2>&1); then \
		echo "error: PYTHON is $(PYTHON), which does not start: make PYTHON=/path/to/python3.12" >&2; exit 2; fi; \
	if ! "$(PYTHON)" -c '$(IN_RANGE)'; then \
		echo "error: $(PYTHON) is $$found, 3.11, 3.12 or 3.13 is needed: make PYTHON=/path/to/python3.12" >&2; exit 2; fi
	"$(PYTHON)" -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet uv
	touch $@

# uv does not read pip's settings (pip.conf, PIP_...): index, links and certificate are handed on to it. With extra indexes
# pip takes the best version of any of them.
define install
pip_says() { $(VENV)/bin/python -m pip config list | sed -n "s|^$$1\.$$2='\(.*\)'$$|\1|p" | sed 's|\\n| |g'; }; \
setting() { for place in :env: install global; do value=$$(pip_says $$place $$1); \
	if [ -n "$$value" ]; then echo $$value; return; fi; done; }; \
give() { if [ -n "$$2" ] && [ -z "$${!1:-}" ]; then export "$$1=$$2"; fi; }; \
give UV_DEFAULT_INDEX "$$(setting index-url)"; \
if [ -z "$${UV_INDEX:-}" ] && [ -n "$$(setting extra-index-url)" ]; then \
	give UV_INDEX "$$(setting extra-index-url)"; give UV_INDEX_STRATEGY unsafe-best-match; fi; \
give UV_FIND_LINKS "$$(setting find-links | tr ' ' ,)"; \
give UV_INSECURE_HOST "$$(setting trusted-host)"; \
give SSL_CERT_FILE "$$(setting cert)"; \
$(VENV)/bin/python -m uv pip install --python $(VENV)/bin/python -c $(CONSTRAINTS) $(if $(TORCH),--torch-backend $(TORCH)) -e '$(1)'
endef
