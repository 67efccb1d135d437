# Everything a person needs: `make run`, `make test`. Both set up .venv first when that is needed.
SHELL := /bin/bash
PARAMS ?= params/demo.yaml
EXPERIMENT := $(notdir $(basename $(PARAMS)))
PYTHON ?= python3
PORT ?=
BIN := .venv/bin
STAMP := .venv/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)
# No tool of this project reports anything to anybody.
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true

.PHONY: help install run test lint bench schema ui publish repro lock clean
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml requirements.lock
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --quiet -r requirements.lock
	$(BIN)/pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

install: $(STAMP)  ## set up .venv

run: $(STAMP)  ## the experiment PARAMS (params/demo.yaml), end to end
	@snakemake --configfile $(PARAMS)
	@echo "Report: results/$(EXPERIMENT)/report.html   (records: make ui)"

test: $(STAMP) lint  ## lint, then every test
	$(BIN)/python -m pytest

lint: $(STAMP)  ## style, types, workflow
	ruff check
	ruff format --check
	mypy
	snakefmt --check Snakefile workflow
	snakemake --lint

bench: $(STAMP)  ## speed, memory and quality beside plain torch (QUICK=1: in three minutes)
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

schema: $(STAMP)  ## write the schemas that the settings of the pieces imply
	flowprior schema

publish: $(STAMP)  ## send the records of PARAMS to MLflow (again)
	@flowprior publish $(PARAMS)

ui: $(STAMP)  ## look at the records, on this machine only
	@flowprior ui $(if $(PORT),--port $(PORT))

repro: $(STAMP)  ## the demo through DVC
	@snakemake --configfile params/demo.yaml -- prepare_all
	dvc repro

lock: $(STAMP)  ## write requirements.lock from .venv
	@{ echo '# What .venv holds, exactly; written by `make lock`.'; \
	   $(BIN)/pip freeze --disable-pip-version-check --all --exclude-editable --exclude pip | sed -E 's/\+[a-z0-9.]+$$//'; } > requirements.lock.new
	@mv requirements.lock.new requirements.lock

clean:  ## remove what was computed; .venv and data/ stay
	rm -rf results prepared logs mlflow.db mlartifacts .snakemake
