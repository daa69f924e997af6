# `make demo` and `make test` need Python >= 3.11 and make, nothing else.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: demo test lint types unit slow clean
.DEFAULT_GOAL := test

# Three cases, in this order: a torch that already sees a GPU is kept; a GPU without torch gets the
# ordinary build; everything else gets a CPU build where the index offers one.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "noiseloom needs Python 3.11 or newer; set PYTHON=/path/to/it")'
	@rm -rf $(VENV)
	@echo "creating $(VENV) (once)"
	@if $(PYTHON) -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then \
	  $(PYTHON) -m venv --system-site-packages $(VENV) && \
	  grep -v -E '^(torch|numpy)==' constraints.txt > $(VENV)/constraints.txt && \
	  $(BIN)/python -c 'import torch; print("torch==" + torch.__version__)' >> $(VENV)/constraints.txt; \
	elif nvidia-smi -L >/dev/null 2>&1; then \
	  $(PYTHON) -m venv $(VENV) && grep -v '^torch==' constraints.txt > $(VENV)/constraints.txt && \
	  $(PIP) -c $(VENV)/constraints.txt 'torch>=2.6'; \
	else \
	  $(PYTHON) -m venv $(VENV) && cp constraints.txt $(VENV)/constraints.txt && \
	  { $(PIP) -c constraints.txt 'torch==2.13.0+cpu' 2>/dev/null || $(PIP) -c constraints.txt 'torch==2.13.0'; }; \
	fi
	@$(PIP) -c $(VENV)/constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/noiseloom demo

test: lint types unit

lint: $(STAMP)
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: $(STAMP)
	@$(BIN)/mypy

# Tests of a file share what it trains: they stay together.
unit: $(STAMP)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

slow: $(STAMP)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

clean:
	rm -rf $(VENV)
