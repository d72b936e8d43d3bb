# Everything runs in a Python environment and with programs that the first target makes by itself, once, in
# the user's cache. `make` alone tells what there is.

PYTHON ?= python3
# The interpreter of the locked environment; making it shows its progress on standard error.
RUN = python="$$($(PYTHON) -m tests.lab.environment)" && "$$python"

.DEFAULT_GOAL := help
.PHONY: help docs demo test test-cluster image bench lint types imports check setup lab chart-docs lock

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Import a VM from a simulated vCenter and boot it, on real parts (KEEP=1 leaves it running)
	@$(RUN) -m tests.lab.demo $(if $(KEEP),--keep)

# The tests of a file share what they start, so that they stay together. The order stays that of collection, in
# which the end-to-end tests, the longest files, come before the others.
TWO_AT_ONCE = --numprocesses 2 --dist loadfile --no-loadscope-reorder
test: setup ## Run all tests (ARGS="-k name" for some, ARGS="-n0 --pdb" in one process)
	@$(RUN) -m pytest $(TWO_AT_ONCE) $(ARGS)

test-cluster: ## Run the image as a pod of a real node, installed by helm (root; minutes the first time)
	@$(RUN) -m tests.cluster

image: ## Build the container image as the cluster test does, into ~/.cache
	@$(RUN) -m tests.lab.image

bench: ## Measure what is claimed about speed (ONLY=name for one), into docs/benchmarks.md
	@$(RUN) -m tests.bench $(if $(ONLY),--only $(ONLY))

lint: ## Check style and formatting
	@$(RUN) -m ruff check . && "$$python" -m ruff format --check .

types: ## Check types
	@$(RUN) -m mypy

imports: ## Check that the layers hold
	@$(RUN) -c 'import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())'

check: lint types imports test ## All of the above, as CI does

docs: ## Write the pages of docs that are made from code and CRDs
	@$(RUN) -m tests.handbook

setup: ## Build and install what the tests need, into ~/.cache
	@$(RUN) -m tests.lab.toolchain && "$$python" -m tests.lab.openstack.template

lab: ## Start the lab (cluster, vCenter, Harvester's behaviour) and leave it to you until Ctrl-C
	@$(RUN) -m tests.lab up

chart-docs: ## Write the chart's table of values and the golden manifests anew
	@$(RUN) -m tests.lab.chart_docs

UV_COMPILE = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock: ## Write the lock files anew from pyproject.toml (needs uv)
	$(UV_COMPILE) --output-file requirements.lock pyproject.toml
	$(UV_COMPILE) --constraint requirements.lock --group pyproject.toml:dev --output-file requirements-dev.lock pyproject.toml
