# `make run`: a classifier trains on Fashion-MNIST and a page shows how well. `make test`: everything is checked.
# Both do all that is needed from nothing but Python 3.11 or newer with pip.
# `make slow`: the tests that would keep `make test` from taking three minutes. `make bench`: our speed against others'. `make pages`: the pages anew, from records and docstrings.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
NATIVE := $(wildcard fittingroom/native/*.c fittingroom/native/*.h setup.py)

.PHONY: run test slow bench pages clean

run: $(VENV)/.ready
	$(BIN)/fittingroom quickstart

test: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2

slow: $(VENV)/.ready-dev $(VENV)/.ready-cluster
	$(BIN)/python -m pytest -q -m slow

$(VENV)/.ready: requirements.lock pyproject.toml $(NATIVE)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Fitting Room needs Python 3.11 or newer; say make PYTHON=/path/to/it"; exit 1; }
	@echo "Installing what it needs into $(VENV), PyTorch among it: some minutes, once."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	touch $@

$(VENV)/.ready-cluster: $(VENV)/.ready requirements-cluster.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-cluster.lock
	touch $@

bench: $(VENV)/.ready $(VENV)-bench/.ready
	PYTHONPATH=. $(VENV)-bench/bin/python -m benchmarks.peers.bench \
	  $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(NETWORKS),--networks "$(NETWORKS)") \
	  $(if $(BATCHES),--batches "$(BATCHES)") $(if $(STAGES),--stages "$(STAGES)") $(if $(ONTO_RECORD),--onto-record)
	$(BIN)/python -m benchmarks.pages

pages: $(VENV)/.ready
	$(BIN)/python docs/make_recipes.py
	$(BIN)/python docs/make_findings.py
	$(BIN)/python docs/make_slip.py
	$(BIN)/python -m benchmarks.pages

$(VENV)-bench/.ready: requirements.lock benchmarks/requirements-bench.lock
	test -x $(VENV)-bench/bin/python || $(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements-bench.lock
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-bench build *.egg-info
