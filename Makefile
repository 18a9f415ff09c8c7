# Everything runs in .venv, which these targets make themselves.
#   make setup   install what users and developers need, napari included
#   make demo    make an example experiment, score it, say where the report is
#   make test    run the tests (under 15 minutes on 2 cores); test-all adds the slow ones
#   make docs    build the site into docs/_build/html, offline; a warning is an error
#   make coverage  how much of the library the tests run, and an error below the floor
#   make test-pyside  run the window tests with PySide6 instead of PyQt6, in a .venv-pyside
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
# constraints hold development and CI to what was tested; torch's stays a small CPU build
INSTALL := $(PIP) install --quiet -c constraints.txt

.PHONY: setup demo test test-all test-pyside coverage lint docs dist clean

setup: $(VENV)/dev.done

$(VENV)/pip.done:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade "pip>=25.1"
	touch $@

$(VENV)/core.done: $(VENV)/pip.done pyproject.toml constraints.txt
	$(INSTALL) -e .
	touch $@

$(VENV)/dev.done: $(VENV)/pip.done pyproject.toml constraints.txt
	$(INSTALL) -e ".[all,formats,export,dask,cloud,train]" --group dev
	touch $@ $(VENV)/core.done

demo: $(VENV)/core.done
	$(BIN)/islet-imaging demo demo

# two processes, a file at a time, so that a module's fixtures are made once
test: $(VENV)/dev.done
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-all: $(VENV)/dev.done
	$(BIN)/python -m pytest

test-pyside: .venv-pyside/done
	QT_API=pyside6 .venv-pyside/bin/python -m pytest tests/gui

# two bindings in one environment are asking for trouble
.venv-pyside/done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-pyside
	.venv-pyside/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.venv-pyside/bin/python -m pip install --quiet -c constraints.txt -e ".[napari,export]" \
		PySide6 --group test
	touch $@

# the window's own tests say little about the library and take long
coverage: $(VENV)/dev.done
	$(BIN)/python -m pytest -m "not slow" --ignore=tests/gui --cov=islet_imaging --cov-report=term

lint: $(VENV)/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/dev.done
	$(BIN)/python -m sphinx -W --keep-going -q -b html -d docs/_build/doctrees docs docs/_build/html

# sdist and, from it, the wheel
dist: $(VENV)/dev.done
	$(BIN)/python -m build

clean:
	rm -rf $(VENV) .venv-pyside demo build dist docs/_build docs/reference
