# Two commands for a fresh machine with Python 3.11 or newer: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := cpu,rtx,openvino,export,train,bench,dev

.PHONY: setup test check demo clean

setup: $(VENV)/installed ## .venv with all that a machine without a GPU can use

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e ".[$(EXTRAS)]"
	touch $@

check: setup ## ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check ## check, then the tests
	$(BIN)/pytest

demo: setup ## the main job on the CPU; PHOTOS=DIR adds your own pictures
	$(BIN)/fashion-infer demo -o demo $(if $(PHOTOS),--photos "$(PHOTOS)")

clean:
	rm -rf $(VENV) demo build *.egg-info
