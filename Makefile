# make demo    environment and the embedded study, to runs/world/report.html
# make test    environment and tests
# Variables:   PYTHON=python3.12 picks the interpreter (its environment gets a folder of its own),
#              WORKDIR=... where the demo writes, TORCH=torch==... the torch that the tests compare with.
#              Torch's Linux wheels on PyPI bring CUDA; PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu avoids it.
PYTHON ?= python3
TORCH ?= torch==2.13.0
WORKDIR ?= runs/world
VENV := .venv$(if $(filter-out python3,$(notdir $(PYTHON))),-$(notdir $(PYTHON)))
BIN := $(VENV)/bin

ifneq ($(shell command -v uv 2>/dev/null),)
INSTALL := uv pip install --quiet --python $(BIN)/python
CREATE := uv venv --quiet --python $(PYTHON) $(VENV)
else
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
CREATE := $(PYTHON) -m venv $(VENV)
endif

.PHONY: demo test lint clean

demo: $(VENV)/.installed-report
	$(BIN)/python -m launch.replicate --config=configs/world.py --workdir=$(WORKDIR)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Makefile: expected Python 3.11 or newer, got $(shell $(PYTHON) --version 2>&1); pass PYTHON=python3.12' >&2; exit 1; }
	@echo 'creating $(VENV)'
	@$(CREATE) || { rm -rf $(VENV); echo 'Makefile: could not create $(VENV); on Debian: apt-get install python3-venv, or install uv' >&2; exit 1; }

$(VENV)/.installed-report: setup.py | $(VENV)/bin/python
	@echo 'installing warmjax into $(VENV) (a few minutes the first time)'
	@$(INSTALL) -e '.[report]'
	@touch $@

$(VENV)/.installed-dev: setup.py | $(VENV)/bin/python
	@echo 'installing warmjax and its test tools into $(VENV) (a few minutes the first time)'
	@$(INSTALL) $(TORCH)
	@$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.installed-report

clean:
	rm -rf .venv .venv-* runs
