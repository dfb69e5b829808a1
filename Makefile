# One verb each for people and CI. Every verb creates the environment it needs.
PYTHON ?= python3
PIPELINE ?= photos
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed

.PHONY: help install fix check test slow demo pipeline monthly bench docs dist clean

help:            ## list the verbs
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

install: $(READY)  ## create .venv with effxfer and everything it needs (about 6 GB with the CUDA build of torch)

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info < (3, 14), "effxfer needs Python 3.11 to 3.13"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev,docs]'
	touch $@

fix: $(READY)    ## format, and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: $(READY)  ## format, lint and types, without changing anything
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: $(READY)   ## the default suite
	OMP_NUM_THREADS=1 $(BIN)/pytest -m 'not slow and not data' -n auto --dist worksteal

slow: $(READY)   ## everything, also what takes minutes or needs the real data (EFFXFER_DATA)
	OMP_NUM_THREADS=1 $(BIN)/pytest

demo: $(READY)   ## the whole way, offline, on built-in data
	$(BIN)/effxfer run demo --out runs/demo

pipeline: $(READY)  ## a pipeline on your data: PIPELINE=photos DATA=my/photos BACKBONE=timm:mobilenetv2_100 OUT=runs/mine
	$(BIN)/effxfer run '$(PIPELINE)' $(if $(DATA),--data '$(DATA)') $(if $(BACKBONE),--backbone '$(BACKBONE)') \
	    $(if $(OUT),--out '$(OUT)') $(ARGS)

monthly: $(READY)  ## learn dated folders one after another: DATA='photos/2026-*' [BACKBONE=runs/march/1-learn] OUT=runs/april
	$(BIN)/effxfer run monthly $(if $(DATA),--data '$(DATA)') $(if $(BACKBONE),--backbone '$(BACKBONE)') \
	    $(if $(OUT),--out '$(OUT)') $(ARGS)

bench: $(READY)  ## speed against plain alternatives, as ratios measured in one run
	$(BIN)/python -m benchmarks

docs: $(READY)   ## the site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

dist: $(READY)   ## both wheels and their source distributions, in dist/
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m build --outdir dist packages/runtime

clean:           ## remove the environment and all results
	rm -rf $(VENV) runs site dist
