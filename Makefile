.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FIGURES := $(VENV)/figures.jsonl
FAULTS := $(VENV)/faults.jsonl
# Small matrices lose more by threads than they gain.
export OPENBLAS_NUM_THREADS := 1

.PHONY: help install check test test-on-stacks test-without-stacks test-demos demo up bench test-faults test-statistics requirements

help: ## Show this list
	@grep -E '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

$(STAMP): requirements-dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

install: $(STAMP) ## Make .venv with the scaling command in it

demo: install ## Run the whole system embedded on simulated runs (about a minute)
	$(BIN)/scaling demo

up: install ## Run the embedded stack until Ctrl-C
	$(BIN)/scaling up

check: install ## Format, lint, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy tests bench
	$(BIN)/lint-imports

test: check ## Everything CI runs
	@$(MAKE) --no-print-directory --jobs 2 --keep-going test-on-stacks test-without-stacks test-demos

test-on-stacks: install ## The tests that need Kafka and ClickHouse
	$(BIN)/pytest -m "stack and not demo and not faults"

test-without-stacks: install ## The tests that need neither
	@$(call beside,$@,not stack and not faults)

test-demos: install ## The demos and the README's commands
	@$(call beside,$@,demo)

# These take what the others leave of the machine, and print when they are done.
define beside
nice $(BIN)/pytest -m "$(2)" >$(VENV)/$(1).log 2>&1; status=$$?; cat $(VENV)/$(1).log; exit $$status
endef

test-faults: install ## The long fault-injection set (about half an hour), and its table into docs/guarantees.md
	rm -f $(FAULTS)
	SCALING_FAULT_TABLE=$(FAULTS) $(BIN)/pytest -m faults
	PYTHONPATH=. $(BIN)/python bench/faults_table.py $(FAULTS)

test-statistics: install ## All planted-truth tests at full size, and their figures into docs/statistics.md (about 10 minutes)
	rm -f $(FIGURES)
	SCALING_FULL_STATISTICS=1 SCALING_FIGURES=$(FIGURES) $(BIN)/pytest -m statistics --timeout 1800
	PYTHONPATH=. $(BIN)/python bench/statistics_table.py $(FIGURES)

bench: install ## Measure speed against baselines in the same run
	PYTHONPATH=. $(BIN)/python bench/observe.py
	PYTHONPATH=. $(BIN)/python bench/refit.py
	PYTHONPATH=. $(BIN)/python bench/allocate.py
	PYTHONPATH=. $(BIN)/python bench/allocator.py

requirements: ## Pin the dependencies again, with hashes (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header pyproject.toml -o requirements.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header --group dev pyproject.toml -o requirements-dev.txt
