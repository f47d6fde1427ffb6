# Two commands on a fresh machine: `make demo` and `make test`. Both install what is missing.
PYTHON ?= python3
VENV ?= .venv
SOURCES = catalog cli filesystems formats fusefs migrations nbd

.PHONY: demo test soak check bench scale clean

# What the system's package manager gives, then a virtual environment with imgcat in it.
$(VENV)/ready: pyproject.toml tools/system-packages.sh
	PYTHON="$(PYTHON)" tools/system-packages.sh
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/ready
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" tools/demo.sh

check: $(VENV)/ready
	$(VENV)/bin/ruff check --quiet .
	$(VENV)/bin/ruff format --quiet --check .
	$(VENV)/bin/mypy $(SOURCES)
	$(VENV)/bin/lint-imports --no-logo

test: check
	$(VENV)/bin/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

# What is long by nature: the same attacks, many times as often.
soak: $(VENV)/ready
	$(VENV)/bin/python -m pytest -n 2 -m soak

bench: $(VENV)/ready
	$(VENV)/bin/python tests/bench/run.py --markdown docs/benchmarks.md

# The index of files over a hundred machines: some ten minutes, and a gigabyte in TMPDIR.
scale: $(VENV)/ready
	$(VENV)/bin/python tests/bench/scale_index.py --markdown docs/scale.md

clean:
	rm -rf $(VENV) build *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
