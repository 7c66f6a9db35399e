# `make` alone lists the targets. Everything runs in .venv, which tools/setup/setup.sh makes.

python := .venv/bin/python
ruff := $(python) -m ruff
clang-format := .venv/bin/clang-format
native-sources = $(shell find benchmarks csrc metal simulator tests -not -path '*/build/*' | grep -E '\.(h|c|cpp|m|mm|metal)$$')

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-nnunet demo-tutorial test fuzz bench model calibrate check-mac wheel-mac mutants lint format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## set everything up: .venv, Debian packages where they are missing, the builds
	@tools/setup/setup.sh

demo demo-nnunet demo-tutorial: export MPS_SIMULATOR_CHECKS ?= 0# speed counts here (simulator/docs/checks.md)

demo: setup ## train a UNETR on device mps and on the CPU, side by side
	@$(python) examples/demo $(ARGS)

demo-nnunet: ## run nnU-Net's own commands on device mps, and compare with the CPU
	@tools/setup/setup.sh nnunetv2
	@$(python) examples/nnunet $(ARGS)

demo-tutorial: setup ## the UNETR tutorial from files to segmentation, in mixed precision
	@$(python) examples/unetr_tutorial.py $(ARGS)

test: ## run all tests; this is what continuous integration does
	@tools/setup/setup.sh nnunetv2
	@tools/test.sh

fuzz: setup ## make calls at random and hold them against the CPU; ARGS="--minutes 30"
	@$(python) tools/fuzz.py $(ARGS)

bench: setup ## time this machine's device on a network's calls; ARGS="--network unetr"
	@$(python) -m mps_conv_transpose3d bench $(ARGS)

model: setup ## the kernels on the calls of 17 networks, beside other ways, on the model of Apple's GPUs
	@$(python) benchmarks/modelled.py $(ARGS)

calibrate: setup ## hold the model of Apple's GPUs against kernels that others have measured
	@$(python) benchmarks/calibrate.py

check-mac: setup ## compile and link the bridge for macOS on this machine (Linux), beside several versions of torch
	@$(python) tools/mac/check.py $(ARGS)

wheel-mac: setup ## build the wheel for Macs into dist/: 18 releases of torch, 20 minutes on two cores, 2 GB of downloads
	@$(python) tools/mac/build_wheel.py $(ARGS)

mutants: setup ## plant faults in the sources, one at a time: each must be caught by a test
	@$(python) tools/mutants $(ARGS)

lint: setup ## check style and types
	@$(ruff) check
	@$(ruff) format --check
	@$(python) -m mypy
	@$(clang-format) --dry-run --Werror $(native-sources)

format: setup ## correct style where a program can
	@$(ruff) check --fix-only
	@$(ruff) format
	@$(clang-format) -i $(native-sources)

clean: ## remove what was built, downloads and .venv included
	@rm -rf .venv build dist .cache .pytest_cache .ruff_cache .mypy_cache .hypothesis simulator/build *.egg-info simulator/*.egg-info
