# The kit's commands. Every target makes the environment (.venv) first if it is not there or if requirements.txt changed.
# Variables of `make reproduce`:  PROFILE=tiny  MODEL=<folder or hub name>  CORPUS=<file or folder>  SWEEPS=1  SEEDS=3
#                                 FULL=1 (one seed of trainings as long as the grids')
#                                 ONLY=04  FROM=03  JOBS=2 (notebooks at a time)
#                                 SET="ppo__episodes=6400 reward__labels=1000" (fields of the profile)
# Another Python for the environment:  make test PYTHON=python3.12

PYTHON  ?=
PROFILE ?= tiny
VENV    := .venv
PY      := $(VENV)/bin/python
STAMP   := $(VENV)/.installed-$(shell cksum requirements.txt 2>/dev/null | cut -d' ' -f1)

NBVAL   := --nbval-lax --nbval-current-env --nbval-cell-timeout=900
TESTS   := tests $(wildcard notebooks)
# A file's tests stay together, in order (a notebook's cells need those before them); a core runs one file after another.
# Not those of most tests first, which pytest-xdist would do: the longest files have few.
ATONCE  := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
RUN     := $(PY) -m rlhf_lib

.PHONY: help env reproduce figures check docs test test-all soak test-browser bench lab label base lint
.DEFAULT_GOAL := help

help:
	@echo "make reproduce     run all notebooks, ending in the table of measured beside published numbers (PROFILE=tiny)"
	@echo "make figures       copy the newest complete run's figures to figures/"
	@echo "make check         hold the numbers in figures/ against the claims of the blog post"
	@echo "make docs          write the made parts of README.md and docs/ again (figures and check do it by themselves)"
	@echo "make lab           open JupyterLab on notebooks/00_start_here.ipynb"
	@echo "make label         serve the labeling page alone, without code"
	@echo "make base          pretrain the base model again: CORPUS=<text or JSONL file> OUT=<folder>"
	@echo "make test          the tests and, at smoke size, every notebook (test-all: the slow ones too; soak: the long ones)"
	@echo "make test-browser  the tests in a real Chromium, after installing what they need"
	@echo "make bench         speed beside TRL and transformers, growth, memory (QUICK=1: minutes instead of the better part of an hour)"
	@echo "make lint          ruff and the notebooks' hygiene"

env: $(STAMP)

# The first Python >= 3.11 that runs; PYTHON=... names one. Written for a bare machine: one clear sentence if there is none.
$(STAMP): requirements.txt
	@found=; if [ ! -x $(PY) ]; then \
	  for p in $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11 python); do \
	    "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { found="$$p"; break; }; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "The kit needs Python 3.11 or newer, and $(if $(PYTHON),'$(PYTHON)' is not one,none was found): install one, or name it with PYTHON=/path/to/python3.12." >&2; exit 1; \
	  fi; \
	  echo "Making the environment in $(VENV) with $$("$$found" --version)."; \
	  "$$found" -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "This Python cannot make an environment: install its venv module (Debian: apt-get install python3-venv), or name another with PYTHON=." >&2; exit 1; }; \
	fi
	@echo "Installing requirements.txt into $(VENV) (once; some minutes)."
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@# The package is used from this folder, so that editing it is all that a change needs.
	@$(PY) -c "import os, pathlib, sysconfig; pathlib.Path(sysconfig.get_path('purelib'), 'rlhf_lib.pth').write_text(os.getcwd() + '\n')"
	@rm -f $(VENV)/.installed-*
	@touch $@

reproduce: $(STAMP)
	@$(RUN) reproduce --profile "$(PROFILE)" $(if $(MODEL),--model "$(MODEL)") $(if $(CORPUS),--corpus "$(CORPUS)") \
	  $(if $(SWEEPS),--sweeps "$(SWEEPS)") $(if $(FULL),--full "$(FULL)") $(if $(SEEDS),--seeds "$(SEEDS)") $(if $(JOBS),--jobs "$(JOBS)") $(if $(ONLY),--only "$(ONLY)") $(if $(FROM),--from "$(FROM)") \
	  $(foreach field,$(SET),--set "$(field)")

figures: $(STAMP)
	@$(RUN) figures --profile "$(PROFILE)"
	@$(RUN) docs

check: $(STAMP)
	@$(RUN) check --profile "$(PROFILE)"; status=$$?; $(RUN) docs && exit $$status

docs: $(STAMP)
	@$(RUN) docs

test: $(STAMP)
	OMP_NUM_THREADS=1 $(PY) -m pytest $(NBVAL) $(ATONCE) $(TESTS)

test-all: $(STAMP)
	OMP_NUM_THREADS=1 $(PY) -m pytest $(NBVAL) $(ATONCE) -m "not soak" $(TESTS)

soak: $(STAMP)
	$(PY) -m pytest -m soak --soak-report figures/soak.json tests

# Chromium is Debian's, because a browser build of Playwright's own is not in any package registry.
test-browser: $(STAMP)
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } \
	  || echo "Chromium is not installed and cannot be installed from here: the browser tests will say that they skip." >&2
	$(PY) -m pytest -m browser --soak-report figures/browser.json tests

# The peers are installed in an environment of their own, .venv-peers, the first time.
bench: $(STAMP)
	PYTHONPATH=. $(PY) tests/benchmarks/bench.py --profile "$(PROFILE)" $(if $(QUICK),--quick)

lab: $(STAMP)
	$(PY) -m jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks/00_start_here.ipynb

label: $(STAMP)
	@$(RUN) label

base: $(STAMP)
	@$(RUN) base $(if $(CORPUS),--corpus "$(CORPUS)") $(if $(OUT),--out "$(OUT)")

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	@$(RUN) lint-notebooks
