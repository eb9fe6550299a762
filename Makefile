# Two commands for a fresh machine with Python 3.11 and make: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
TARGET := results/fashion-mini/ipc10/summary
export PYTHONDONTWRITEBYTECODE =

.PHONY: setup demo test test-cluster test-chaos chaos lint docs audit lock bench bench-gpu table sweeps prior clean

setup: .venv/.done

.venv/.done: constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "limbeck needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,docs,cluster]'
	touch $@

demo: setup
	$(BIN)/python workflow/scripts/unlock_stale.py
	$(BIN)/snakemake --quiet rules
	@cat $(TARGET).md
	@echo "Report: $(CURDIR)/$(TARGET).html"

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

# a real Slurm on this host (docs/CLUSTER.md): Debian, as root; and an S3 server on loopback; a few minutes
test-cluster: setup
	LIMBECK_SLURM=required LIMBECK_S3=1 $(BIN)/python -m pytest tests/cluster

# what can go wrong, done on purpose: a short version of every fault; a few minutes
test-chaos: setup
	$(BIN)/python -m pytest -m chaos tests/chaos

# the long version, the demo killed at 60 random moments among it: a table of what was tried, survived, lost and wrong; an hour and more
chaos: setup
	$(BIN)/python -m tests.chaos

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint

# what setup installs: known vulnerabilities, where their data can be reached, and hashes; pip-audit stays out of its environment
audit: setup
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	$(BIN)/python workflow/scripts/audit.py --tool .venv/audit/bin/pip-audit

lock: setup
	$(BIN)/python workflow/scripts/audit.py --lock

# the documentation as a site that needs no network: site/index.html (--quiet would let warnings pass)
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "Site: $(CURDIR)/site/index.html"

bench: setup
	$(BIN)/python -m benchmarks

# DiT-XL/2 with random weights on a GPU: the tables of docs/PERFORMANCE.md
bench-gpu: setup
	$(BIN)/python -m benchmarks.dit_xl

# all methods, paired over generation seeds (workflow/configs/NAME.yaml): table 5 seeds at IPC 10 and 3 at IPC 50; fashion_mnist all
# 70,000 images at IPC 1, 10 and 50; soft hard and soft labels; two to three hours each on 2 cores, soft half an hour
TABLES ?= table
table: setup
	$(BIN)/python workflow/scripts/unlock_stale.py
	for name in $(TABLES); do \
	  $(BIN)/snakemake --quiet rules --configfile workflow/configs/$${name}.yaml || exit 1; \
	  $(BIN)/python workflow/scripts/results_page.py table $${name} || exit 1; \
	done

# the methods' ablations at IPC 10, 3 seeds; about three quarters of an hour each on 2 cores
SWEEPS ?= manifoldgd coda d3hr ims3 patches
sweeps: setup
	$(BIN)/python workflow/scripts/unlock_stale.py
	for name in $(SWEEPS); do \
	  $(BIN)/snakemake --quiet rules --configfile workflow/configs/$${name}_sweeps.yaml -- \
	    $$($(BIN)/python workflow/scripts/results_page.py targets $$name) || exit 1; \
	done
	$(BIN)/python workflow/scripts/results_page.py sweeps $(SWEEPS)

# train the embedded prior anew under results/priors; one to three hours of one core
prior: setup
	$(BIN)/snakemake --quiet rules --configfile workflow/configs/train_fashion_dit.yaml results/priors/fashion-dit-trained/model_index.json

clean:
	find results -mindepth 1 ! -name README.md -delete
