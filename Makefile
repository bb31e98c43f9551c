# Everything happens in a virtual environment of its own, made on first use.
# Another interpreter: make test PYTHON=python3.13

PYTHON ?= python3
VENV := .venv/$(notdir $(PYTHON))
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
ARGS ?=

APPLICATIONS := forecast classify language_model seq2seq speech compare

.PHONY: help adding copy sweep zoo $(APPLICATIONS) test laws scripts mutate parity benchmark lint types docs catalogue readme results ranking costs clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12
	@echo 'applications: $(APPLICATIONS)'

adding: $(VENV)/experiments  ## train Elman, LSTM and GRU on the adding problem; table and curves in runs/adding
	$(BIN)/python -m experiments.adding $(ARGS)

copy: $(VENV)/experiments  ## the copying memory problem; table and curves in runs/copy
	$(BIN)/python -m experiments.copy $(ARGS)

sweep: $(VENV)/experiments  ## learning rates and forget biases on the adding problem; table and map in runs/sweep-adding
	$(BIN)/python -m experiments.sweep --vary learning_rate=1e-4:1e-1:log:7 forget_bias=0,1,2 adding --cells LSTM GRU $(ARGS)

$(APPLICATIONS): $(VENV)/experiments
	$(BIN)/python -m experiments.$@ $(ARGS)

zoo: $(VENV)/experiments  ## every cell on the adding problem, ranked; table and picture in runs/zoo
	$(BIN)/python -m experiments.zoo $(ARGS)

# The time of a test is the compiler's, and much of it LLVM's. With all optimisations, as users run:
# make laws JAX_DISABLE_MOST_OPTIMIZATIONS=0
test laws scripts mutate: export JAX_DISABLE_MOST_OPTIMIZATIONS ?= 1

test: $(VENV)/test  ## the tests of every day
	$(BIN)/python -m pytest -n auto -m "not laws and not scripts and not parity" $(ARGS)

laws: $(VENV)/test  ## every law over every cell, and the tests of every day
	$(BIN)/python -m pytest -n auto -m "not scripts and not parity" $(ARGS)

scripts: $(VENV)/test  ## whole scripts, and every command and all code of the documents
	$(BIN)/python -m pytest -n auto -m scripts $(ARGS)

mutate: $(VENV)/test  ## change every equation, one thing at a time, and see that the references notice
	$(BIN)/python -m tests.mutate $(ARGS)

parity: $(VENV)/parity  ## against other libraries
	$(BIN)/python -m pytest -m parity $(ARGS)

benchmark: $(VENV)/parity  ## one layer and training against every peer; writes docs/results/benchmark and the README's paragraph
	$(BIN)/python -m experiments.benchmark --out docs/results/benchmark $(ARGS)
	$(BIN)/python -m experiments.readme

costs: $(VENV)/experiments  ## every cell against a plain scan, and the scans of linear cells (half an hour)
	$(BIN)/python -m experiments.benchmark cells scans --out docs/results/cells $(ARGS)
	$(BIN)/python -m experiments.readme

lint: $(VENV)/dev  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev  ## mypy
	$(BIN)/mypy

docs: $(VENV)/docs  ## build the documentation site in site/
	$(BIN)/mkdocs build --strict --quiet

catalogue: $(VENV)/experiments  ## rewrite docs/cells from the docstrings; pictures of new cells, of all with ARGS=--redraw
	$(BIN)/python -m experiments.catalogue $(ARGS)

readme: $(VENV)/experiments  ## rewrite the generated tables of the README
	$(BIN)/python -m experiments.readme

results: $(VENV)/experiments  ## train again what the README shows
	$(BIN)/python -m experiments.adding --out runs/results
	cp runs/results/config.json runs/results/metrics.jsonl runs/results/curves.png runs/results/table.md docs/results/adding
	$(BIN)/python -m experiments.readme

ranking: $(VENV)/experiments  ## train every cell again, as docs/results/zoo shows it (two hours)
	$(BIN)/python -m experiments.zoo --training.first-seed 10 --out runs/ranking --resume
	mkdir -p docs/results/zoo
	cp runs/ranking/results.jsonl runs/ranking/table.md runs/ranking/adding.png docs/results/zoo
	$(BIN)/python -m experiments.readme

clean:
	rm -rf .venv runs dist site

$(VENV)/python:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/%: $(VENV)/python pyproject.toml
	$(PIP) -e '.[$*]'
	touch $@
