# Thin: everything is in dev.py, for machines without make (python3 dev.py demo).
#   make demo [RESET=1] [PORT=8000] [SANDBOX_PORT=8100]
#   make test [ARGS="-k name"]
#   make chaos [ARGS="--rows 20000 --kills 200"]
#   make canary [ARGS="--keep FOLDER"]
#   another interpreter: make demo PYTHON=python3.13
PYTHON ?= python3
ARGS ?=
export RESET PORT SANDBOX_PORT

.PHONY: setup demo test check screenshots chaos canary
.DEFAULT_GOAL := help

setup check:
	@$(PYTHON) dev.py $@

demo test screenshots chaos canary:
	@$(PYTHON) dev.py $@ $(ARGS)

.PHONY: help
help:
	@$(PYTHON) dev.py help
