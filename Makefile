# Everything a person needs: `make run`, `make test`. Both set up .venv first when that is needed.
SHELL := /bin/bash
PARAMS ?= params/demo.yaml
# The experiment under DVC.
DVC_PARAMS := params/$(shell sed -n 's/^ *- experiment: *//p' dvc.yaml).yaml
ARGS ?=
PYTHON ?= python3
PORT ?=
BIN := .venv/bin
STAMP := .venv/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)
# No tool of this project reports anything to anybody.
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
# DVC runs the commands of its stages by this shell; not every person's own knows $${NAME:-default}.
export SHELL
# What DVC has not recorded is lost when a command brings files back.
define RECORDED
@test "$$(dvc status --json)" = "{}" || { dvc status >&2; echo "flowprior: these files are not as dvc.lock records them: \`dvc commit\` keeps them as they are, \`dvc checkout --force\` (metrics and plots: \`git checkout results\`) brings back what was recorded" >&2; exit 2; }
endef

.PHONY: help install run test test-all lint bench schema ui publish repro pull exp lock clean
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml requirements.lock
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --quiet -r requirements.lock
	$(BIN)/pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

install: $(STAMP)  ## set up .venv

run: $(STAMP)  ## the experiment PARAMS (params/demo.yaml), end to end
	@flowprior check --quick $(PARAMS)
	@snakemake --configfile $(PARAMS)
	@echo "Report: results/$$(sed -n 's/^name: *//p' $(PARAMS))/report.html   (records: make ui)"

test: $(STAMP) lint  ## lint, then the tests that take seconds
	$(BIN)/python -m pytest -m "not slow"

test-all: $(STAMP) lint  ## lint, then every test
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

repro: $(STAMP)  ## the demo through DVC, which records what it was made of
	@snakemake --configfile $(DVC_PARAMS) -- download_all
	@! dvc status --json data.dvc | grep -q '"modified"' || { echo "flowprior: data/ is not what data.dvc pins: \`dvc commit data.dvc\` pins what lies there; or move data/ away and run again" >&2; exit 2; }
	dvc commit --quiet --force data.dvc
	dvc repro
	@snakemake --configfile $(DVC_PARAMS) -- publish

pull: $(STAMP)  ## results that dvc.lock records, from the DVC remote; then nothing is left to run
	@test -f dvc.lock || { echo "flowprior: there is no dvc.lock, so no results are recorded; make them: make repro" >&2; exit 2; }
	@dvc remote default >/dev/null 2>&1 || { echo "flowprior: no DVC remote to pull from; name one: dvc remote add --default NAME URL-OR-FOLDER" >&2; exit 2; }
	dvc pull || { echo "flowprior: nothing was removed. Where DVC names unsaved files: \`dvc commit\` keeps them, \`dvc checkout --force\` brings back what was recorded. Where it misses some: \`dvc push\` where they were made" >&2; exit 2; }
	$(RECORDED)
	@# The files are the recorded ones: Snakemake need not make them, and learns which settings each was made with.
	@snakemake --configfile $(DVC_PARAMS) --quiet all --forceall --touch -- evaluate_all report_all
	@snakemake --configfile $(DVC_PARAMS) -- publish

exp: $(STAMP)  ## a DVC experiment: make exp ARGS='--set-param params/demo.yaml:title=Another'
	$(RECORDED)
	dvc exp run $(ARGS)

lock: $(STAMP)  ## write requirements.lock from .venv
	@{ echo '# What .venv holds, exactly; written by `make lock`.'; \
	   $(BIN)/pip freeze --disable-pip-version-check --all --exclude-editable --exclude pip | sed -E 's/\+[a-z0-9.]+$$//'; } > requirements.lock.new
	@mv requirements.lock.new requirements.lock

clean:  ## remove what was computed; .venv and data/ stay
	rm -rf results prepared logs dvc_plots mlflow.db mlartifacts .snakemake
