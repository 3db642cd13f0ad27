# The verbs people type. Each sets up what it needs: `make demo` and `make test` work on a fresh clone.
SHELL := /bin/bash
PYTHON ?= python3
# The first Python 3.12 or 3.13 that answers, for what needs one; set it to choose another.
SCIB_PYTHON ?= $(shell for python in $(PYTHON) python3.12 python3.13 $$HOME/.pyenv/versions/3.1[23].*/bin/python; do \
  "$$python" -c 'import sys; sys.exit(not (3, 12) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo "$$python" && break; done)
# uv, where it is there, installs in a fraction of the time. It reads no pip.conf: pip takes over where it fails, and always
# installs PyTorch, of which pip.conf may name a build for CPUs.
UV ?= $(shell command -v uv)
DEVICE ?= cpu
CORES ?= $(shell nproc 2>/dev/null || echo 2)
BIN := .venv/bin
SNAKEMAKE := $(BIN)/snakemake --cores $(CORES)

.PHONY: help check types setup setup-models setup-scib setup-slurm scib-python images demo demo-all resume test test-all fuzz reliability lint format calibrate full-grid bench plan bench-models bench-host check-weights gpu-bundle gpu-check compare site verify dag docs docs-site screenshots lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.installed  ## make .venv with what baselines need, at the exact versions of requirements-base.lock

.venv/.installed: requirements-base.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "cellgauge needs Python 3.11 to 3.13, $(PYTHON) is $$($(PYTHON) --version); set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Installing $$(grep -c == requirements-base.lock) packages into .venv; this takes a minute or two, once."
	$(PYTHON) -m venv .venv
	$(if $(UV),$(UV) pip install --quiet --python $(BIN)/python --requirement requirements-base.lock ||) \
	  $(BIN)/python -m pip install --disable-pip-version-check --requirement requirements-base.lock
	@touch $@

setup-models: .venv/.installed-models  ## add PyTorch and what else foundation models and scVI need (requirements.lock)

.venv/.installed-models: requirements.lock .venv/.installed
	$(BIN)/python -m pip install --disable-pip-version-check --requirement requirements.lock
	@touch $@

scib-python:
	@echo $(SCIB_PYTHON)

setup-scib: .venv-scib/.installed  ## make .venv-scib, which the task scib runs in (Python 3.12 or 3.13)

# The stamp is the lock itself: workflow/scripts/cellgauge/plan/interpreter.py compares it.
.venv-scib/.installed: requirements-scib.lock
	@[ -n "$(SCIB_PYTHON)" ] || { echo "scib-metrics 0.6 needs Python 3.12 or 3.13, and none was found;" \
	  "set SCIB_PYTHON=/path/to/python3.12, or run the workflow with --profile profiles/conda"; exit 1; }
	rm -rf .venv-scib
	$(SCIB_PYTHON) -m venv .venv-scib
	.venv-scib/bin/python -m pip install --disable-pip-version-check --quiet --requirement requirements-scib.lock
	@cp requirements-scib.lock $@

setup-slurm: setup  ## add what submits jobs to SLURM to .venv, and change nothing else there
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --requirement requirements-slurm.lock

.venv/.installed-dev: requirements-dev.lock .venv/.installed
	$(BIN)/python -m pip install --disable-pip-version-check --requirement requirements-dev.lock
	@touch $@

ENGINE ?= $(firstword $(notdir $(shell command -v podman docker)) podman)

images: $(patsubst workflow/envs/%.yaml,resources/images/%.sif,$(wildcard workflow/envs/*.yaml))  ## build the images of --sdm apptainer (needs podman or docker, and apptainer)

resources/images/%.sif: workflow/envs/%.yaml workflow/containers/Dockerfile requirements.lock requirements-scib.lock
	@mkdir -p $(@D)
	$(ENGINE) build --build-arg ENVIRONMENT=$* --build-arg PYTHON=$$(sed -n 's/^  - python=//p' $<) \
	  --build-arg LOCK=$(firstword $(wildcard requirements-$*.lock) requirements.lock) \
	  --file workflow/containers/Dockerfile --tag cellgauge-$* .
	$(ENGINE) save --output $@.tar cellgauge-$*
	apptainer build --force $@ docker-archive:$@.tar
	rm $@.tar

demo: setup  ## a first look on real cells: tables and a report (2 minutes)
	@[ -t 1 ] && rich="--logger rich"; \
	$(SNAKEMAKE) --configfile config/demo.yaml --keep-going --show-failed-logs $$rich
	@echo "Open results/report.html; the tables are in results/tables."

demo-all: setup-models  ## every model and task that needs no checkpoint, on real cells (10 minutes)
	@[ -t 1 ] && rich="--logger rich"; \
	$(SNAKEMAKE) --configfile config/demo-all.yaml --keep-going --show-failed-logs $$rich
	@echo "Open results/report.html; the tables are in results/tables."

resume: setup  ## continue after an interruption: the same command again (ARGS="--configfile mine.yaml")
	$(SNAKEMAKE) $(ARGS) --keep-going --show-failed-logs

test: .venv/.installed-dev  ## run all tests but the slow ones (test-all runs those too)
	$(BIN)/python -m pytest -n $(CORES) --dist loadgroup -m "not slow" $(ARGS)

test-all: .venv/.installed-dev  ## run every test, as CI does (ARGS=--durations=20: and name the slowest)
	$(BIN)/python -m pytest -n $(CORES) --dist loadgroup $(ARGS)

reliability: .venv/.installed-dev  ## inject every fault (an hour); writes docs/reliability.md
	rm -f docs/reliability.md
	CELLGAUGE_RELIABILITY=1 CELLGAUGE_FUZZ_EXAMPLES=120 $(BIN)/python -m pytest -m reliability --reliability docs/reliability.md

fuzz: .venv/.installed-dev  ## try every property often: damaged files of every format, names, runs (hours; EXAMPLES=300 of each)
	CELLGAUGE_FUZZ_EXAMPLES=$(or $(EXAMPLES),300) $(BIN)/python -m pytest -n $(CORES) --dist loadgroup -m "hypothesis or fuzz"

# What codespell reads: our texts, not vectors of others, locks and pictures.
TEXTS = $(shell git ls-files | grep -vE '(\.lock|\.svg|\.css|\.png|^tests/golden/.*)$$')

lint: .venv/.installed-dev  ## check code style, spelling, types, rules and the workflow
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/snakefmt --check --diff Snakefile workflow
	$(BIN)/codespell $(TEXTS)
	$(BIN)/hadolint workflow/containers/Dockerfile
	$(BIN)/snakemake --lint
	$(BIN)/mypy

format: .venv/.installed-dev  ## rewrite code and rules in the project's style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/snakefmt Snakefile workflow

calibrate: .venv/.installed-dev .venv-scib/.installed  ## score planted worlds, where the right order of models is known; writes docs/calibration.md
	$(BIN)/python tests/calibration/calibrate.py --processes $(CORES)

full-grid: .venv/.installed-dev  ## run config/full.yaml on made-up cells and checkpoints, without the network: every row of the plan
	$(BIN)/python bench/full_grid.py --cores $(CORES) $(ARGS)

bench: .venv/.installed-dev  ## time planning beside a plain workflow, and the scorers beside cz-benchmarks; writes results/bench/
	$(BIN)/python bench/bench_workflow.py
	$(BIN)/python bench/bench_scorers.py

bench-models: .venv/.installed-dev  ## time the foundation models against the official paths (DEVICE=cuda: on a GPU)
	$(BIN)/python bench/bench_models.py --device $(DEVICE)

bench-host: .venv/.installed-dev  ## measure how many cells the host prepares for a GPU, with a network that returns at once
	$(BIN)/python bench/bench_models.py --host

gpu-bundle: .venv/.installed-dev  ## make the files of gpu-check for a GPU machine without network: .gpu-check (GPU_PYTHON=3.12: its Python)
	$(BIN)/python bench/gpu_bundle.py $(if $(GPU_PYTHON),--python $(GPU_PYTHON))

# The GPU machine may have no .venv and no network: any Python with PyTorch does.
gpu-check:  ## check a GPU in 8 minutes: golden vectors, speed, scoring, memory; writes results/bench/gpu.json
	$(PYTHON) bench/gpu_check.py $(ARGS)

check-weights: setup-models  ## fetch real checkpoints (tens of GB) and compare with the embeddings that their authors ship
	$(SNAKEMAKE) --configfile bench/check_weights.yaml --keep-going --show-failed-logs
	$(BIN)/python bench/check_weights.py

check: setup  ## open your files, say what each contains and what is wrong with it (ARGS="--configfile mine.yaml")
	@$(BIN)/python workflow/scripts/check_inputs.py $(ARGS)

plan: setup  ## say what would run, why, and what it costs: hours, memory, bytes (ARGS="--configfile mine.yaml --cells 20000")
	@$(BIN)/python workflow/scripts/plan_run.py $(ARGS)

compare: setup  ## say what changed from run A to run B (A=results B=runs/my_run): a sentence, and B/changes.html
	@$(BIN)/python workflow/scripts/compare_runs.py $(A) $(B)

OUTPUT ?= site
site: setup  ## make a static site of several runs (RUNS="runs/a runs/b" OUTPUT=site)
	@$(BIN)/python workflow/scripts/build_site.py $(RUNS) --output $(OUTPUT)

verify: setup  ## check a run before or after it is submitted (RUN=runs/my_run)
	@$(BIN)/python workflow/scripts/verify_run.py $(RUN)

dag: setup  ## draw the rules of the full benchmark: results/dag.svg (needs graphviz)
	@mkdir -p results
	$(BIN)/snakemake --configfile config/full.yaml --rulegraph | dot -Tsvg > results/dag.svg

screenshots: .venv/.installed-dev  ## pictures of every page of the report, phone and desktop: results/screenshots
	CELLGAUGE_SCREENSHOTS=$(CURDIR)/results/screenshots $(BIN)/python -m pytest -q tests/integration/test_report_page.py -k wider

docs: setup  ## write docs/assets.md from the catalogue, and GPUs' table in docs/performance.md from docs/gpu
	$(BIN)/python workflow/scripts/write_assets.py --output docs/assets.md
	$(BIN)/python bench/gpu_table.py

docs-site: .venv/.installed-dev  ## make a site of the documents: results/docs
	$(BIN)/mkdocs build --strict --quiet

# CUDA builds of torch bring their own companions at exact versions; a CPU build has none, so the lock names neither.
CUDA := cuda-bindings cuda-pathfinder cuda-toolkit triton nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc \
  nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse \
  nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx
UV_COMPILE = $(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --no-annotate --custom-compile-command "make lock"
COMPILE = $(UV_COMPILE) --python-version 3.11 $(addprefix --no-emit-package ,$(CUDA)) pyproject.toml
COMPILE_SCIB = $(UV_COMPILE) --python-version 3.12 --group scib

lock: .venv/.installed-dev  ## resolve pyproject.toml into the lock files (keeps what still fits; UPGRADE=--upgrade takes the newest)
	$(COMPILE) $(UPGRADE) --extra dev --extra models --output-file requirements-dev.lock
	$(COMPILE) --extra models --constraint requirements-dev.lock --output-file requirements.lock
	$(COMPILE) --constraint requirements.lock --output-file requirements-base.lock
	$(COMPILE_SCIB) $(UPGRADE) --constraint requirements.lock --output-file requirements-scib.lock

clean:  ## remove what runs made, but not the downloads
	rm -rf results/* logs benchmarks .snakemake .pytest_cache .ruff_cache
