# make book | test | lowest | serve | lint | format | bench | url | clean
# Needs Python >= 3.11 with pip, and make. Another Python: make book PYTHON=python3.13
# The newest release of every dependency instead of the tested ones: make test CONSTRAINTS=
# The repository's address, from its remote "origin" or as given: make url URL=https://github.com/OWNER/NAME
PYTHON ?= python3
export CONSTRAINTS ?= constraints.txt
BIN := .venv/bin
HTML := _build/html

# Those that take longest first, so that no core is left waiting for them at the end.
LONGEST := $(foreach number,12 06 07 22 16 17 18 19 21 13 03 05 11 25 09 15 08 10,$(wildcard notebooks/$(number)_*.ipynb))
NOTEBOOKS := $(LONGEST) $(filter-out $(LONGEST),$(wildcard notebooks/*.ipynb))
PACKAGE := $(shell find labelnoise_utils -type f -not -path '*/__pycache__/*')
TEXT_NOTEBOOKS := $(shell grep -l '^file_format: mystnb' book/*.md)
PAGES := _config.yml _toc.yml tests/layer_classes.py $(shell find book -type f)

INSTALLED := .venv/.installed
EXECUTED := _build/.executed
BUILT := _build/.built
BENCH_TOOLS := _build/bench-tools
LOWEST := _build/lowest
# The notebooks with the outputs that are on the pages: nbval runs them again and compares.
COPIES := $(patsubst %,_build/executed/%.ipynb,$(basename $(notdir $(NOTEBOOKS) $(TEXT_NOTEBOOKS))))

# Two notebooks run side by side, each on one thread; a progress bar has no place on a page.
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export NUMBA_NUM_THREADS := 1
export TQDM_DISABLE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
PIP_INSTALL := $(BIN)/python -m pip install -qq $(CONSTRAINTS:%=--constraint %)

.PHONY: book test lowest serve lint format bench url clean
.DELETE_ON_ERROR:

book: $(BUILT)
	@echo "The book is in $(HTML)/index.html"

$(INSTALLED): pyproject.toml constraints.txt tests/oracles.txt
	@echo "== Installing into .venv"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	@$(PYTHON) -m venv .venv
	@$(PIP_INSTALL) --editable '.[book,test]'
	@$(PIP_INSTALL) --no-deps --requirement tests/oracles.txt
	@touch $@

$(EXECUTED): $(INSTALLED) $(NOTEBOOKS) $(TEXT_NOTEBOOKS) $(PACKAGE) tools/execute_notebooks.py
	@echo "== Running the notebooks"
	@PYTHONHASHSEED=0 $(BIN)/python tools/execute_notebooks.py $(NOTEBOOKS) $(TEXT_NOTEBOOKS)
	@touch $@

# All pages every time: a warning on a page that a second run does not read again would go unseen.
$(BUILT): $(EXECUTED) $(PAGES)
	@echo "== Building the book"
	@rm -rf $(HTML)
	@$(BIN)/jupyter-book build . --all --quiet -W -n --keep-going >_build/build.log 2>&1 || (cat _build/build.log; exit 1)
	@touch $@

# The notebooks come first since they take longest; a file's tests stay together. Sets of words have another
# order than when the book was built: what hangs on it differs in the second run, and in every such run.
# Three workers for two cores: most tests of pages wait for a browser.
test: lint book
	@echo "== Testing the package, the notebooks and the built book"
	@PYTHONHASHSEED=1 $(BIN)/pytest --nbval --nbval-current-env --nbval-cell-timeout 900 \
		-n 3 --dist loadfile --no-loadscope-reorder $(COPIES) tests labelnoise_utils

# The package's tests against the lowest versions that pyproject.toml admits and this Python can install.
# On x86_64 PyPI's torch brings CUDA along: 3 GB to download, 6 GB in _build/lowest.
lowest: $(LOWEST)/.installed
	@echo "== Testing the package with the lowest versions"
	NUMBA_CACHE_DIR=$(LOWEST)/numba $(LOWEST)/bin/pytest -n 2 --dist loadfile -m "not site and not fresh" tests labelnoise_utils

# uv finds these versions; pip installs them, as it does everywhere else.
$(LOWEST)/.installed: pyproject.toml tests/oracles.txt
	@echo "== Installing into $(LOWEST)"
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install -qq uv
	$(LOWEST)/bin/uv pip compile --quiet --resolution lowest-direct --no-build --all-extras \
		--python $(LOWEST)/bin/python --output-file $(LOWEST)/constraints.txt pyproject.toml
	$(LOWEST)/bin/python -m pip install -qq --constraint $(LOWEST)/constraints.txt --editable '.[book,test]'
	$(LOWEST)/bin/python -m pip install -qq --no-deps --requirement tests/oracles.txt
	@touch $@

lint: $(INSTALLED)
	@echo "== Linting"
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --quiet --check
	@$(BIN)/nbstripout --keep-id --verify $(NOTEBOOKS)

format: $(INSTALLED)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/nbstripout --keep-id $(NOTEBOOKS)

serve: book
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory $(HTML) 8000

bench: $(BENCH_TOOLS)/.installed
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.matrix_sensing
	$(BIN)/python -m benchmarks.penalty
	$(BIN)/python -m benchmarks.contrasts
	$(BIN)/python -m benchmarks.steps
	$(BIN)/python -m benchmarks.sweep
	$(BIN)/python -m benchmarks.interpolant
	KINETO_LOG_LEVEL=99 TORCH_CPP_LOG_LEVEL=ERROR PYTHONPATH=$(BENCH_TOOLS) $(BIN)/python -m benchmarks.regularizer

$(BENCH_TOOLS)/.installed: $(INSTALLED) benchmarks/requirements.txt
	rm -rf $(BENCH_TOOLS)
	$(BIN)/python -m pip install -qq --no-deps --target $(BENCH_TOOLS) --requirement benchmarks/requirements.txt
	@touch $@

url:
	$(PYTHON) tools/set_repository_url.py $(URL)

clean:
	rm -rf _build .pytest_cache .ruff_cache
