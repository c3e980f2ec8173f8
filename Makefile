# Two commands on a fresh machine: `make demo` and `make test`. Both install what they need into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Exactly this version: a looser pin may pull gigabytes of CUDA packages.
TORCH := torch==2.13.0

.PHONY: demo test test-fast test-gpu test-versions mutate lint format clean

demo: $(STAMP)
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh sample_checkpoints/demo.sh

test: lint
	$(BIN)/python -m pytest -n 2

# Without the tests that take more than about 0.2 s of an idle core.
test-fast: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m "not slow"

# On a machine with a GPU, and a PyTorch with CUDA in .venv; elsewhere each test says what it lacks.
test-gpu: $(STAMP)
	$(BIN)/python -m pytest -n 0 -m gpu -rs

# The tests that need no PyTorch, on those of Python 3.10, 3.12 and 3.13 that are at hand, in .venvs.
test-versions:
	$(PYTHON) -m tests.versions

# Faults planted one by one in a copy of the package: which does no test notice? About an hour.
mutate: $(STAMP)
	$(BIN)/python -m tests.mutate

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Touched last, so that an interrupted installation is taken up again.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[convert,dev,openvino,ncnn-convert,mnn,litert,tensorrt-rtx,report,cluster,docs]"
	@touch $@

clean:
	rm -rf $(VENV) .venvs demo
