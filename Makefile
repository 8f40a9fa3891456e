# Two commands matter: `make demo` and `make test`. Both install what they need into .venv.

PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python -m
N ?= 1000

.DELETE_ON_ERROR:
.PHONY: help setup demo test cosim large formal browser slow fuzz bench cycles families lint clean

help:            ## list the targets
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: .venv/.ready  ## create .venv with the pinned requirements

.venv/.ready: requirements.txt scripts/check_system.sh
	@sh scripts/check_system.sh $(PYTHON)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

demo: setup      ## FSB-C3D at paper size: export, build, run on RTL with --check, report
	@mkdir -p build
	$(RUN) models export fsb_c3d -o build/fsb_c3d.onnx
	$(RUN) compiler build build/fsb_c3d.onnx --config base -o build/fsb_c3d
	$(RUN) sim run build/fsb_c3d --on rtl --check
	$(RUN) reports build/fsb_c3d

test: setup      ## the default tests (no Verilator, no paper-size network)
	$(RUN) pytest -q -n 2

cosim: setup     ## RTL under Verilator: cocotb, native, against the cycle model
	$(RUN) pytest -q -n 2 -m "cosim and not large and not slow"

large: setup     ## more cases of what test and cosim try: shapes, seeds, configurations
	$(RUN) pytest -q -n 2 -m "large and not slow"

formal: setup    ## proofs of circuits, of runs of every length (Yosys, ABC)
	$(RUN) pytest -q -n 2 -m formal

browser: setup   ## reports in a headless Chromium, which comes from the system
	@sh scripts/check_system.sh $(PYTHON) browser
	$(RUN) pytest -q -m browser

slow: setup      ## paper-size networks
	$(RUN) pytest -q -m slow

fuzz: setup      ## random graphs through everything: make fuzz N=10000
	$(RUN) fuzz -n $(N) --jobs 2

bench: setup     ## print every figure that README and docs claim
	$(BIN)/python scripts/bench.py

cycles: setup    ## cycles of every network by the model, against proof/cycles.json
	$(RUN) proof.cycles

families: setup  ## every variant of every family at tiny: tensors compared, cycles, functional, RTL
	$(RUN) proof.families

lint: setup      ## ruff, mypy, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

clean:           ## remove builds and caches, keep .venv
	rm -rf build .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
