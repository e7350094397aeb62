# Retain: `make demo` shows it, `make test` proves it. Every target installs only what is missing.
SHELL := /bin/bash
.DEFAULT_GOAL := help
# A forced BLAS core halves products on CPUs with AVX-512; Retain picks the core itself.
unexport OPENBLAS_CORETYPE

PACKAGES := libopenblas-dev libdnnl-dev libhdf5-dev zlib1g-dev pkg-config
# The manifest looks for oneDNN: an answer from before it was installed must not be kept.
SWIFT_FLAGS := -c release --manifest-cache none --explicit-target-dependency-import-check error
BIN := .build/release/retain

.PHONY: help setup build demo test check format bench reproduce clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: ## install the missing system packages (Debian and Ubuntu), check for Swift
	@if ! command -v swift >/dev/null; then \
	  echo "Swift 6.2 or newer is missing. Get it from https://www.swift.org/install/linux and run make again."; exit 1; fi
	@missing=""; for package in $(PACKAGES); do \
	  dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q "install ok installed" || missing="$$missing $$package"; done; \
	if [ -n "$$missing" ]; then \
	  echo "installing:$$missing"; \
	  if [ "$$(id -u)" = 0 ]; then root=""; elif command -v sudo >/dev/null; then root=sudo; else \
	    echo "run as root or install sudo, or install these yourself:$$missing"; exit 1; fi; \
	  $$root apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$root apt-get install -y -qq $$missing; fi

build: setup ## compile in release mode, warnings are errors
	swift build $(SWIFT_FLAGS)

demo: build ## base model, medical stage, legal stage, four guards compared
	$(BIN) demo

test: setup ## build and run every test
	swift build $(SWIFT_FLAGS) --build-tests
	swift test -c release --manifest-cache none --skip-build

check: setup ## formatting of all Swift sources
	swift format lint --strict --recursive Sources Tests Package.swift

format: ## rewrite all Swift sources in the project's form
	swift format --in-place --recursive Sources Tests Package.swift

bench: build ## throughput of training, EWC and Fisher on this machine
	Experiments/benchmarks/run.sh $(BIN)

reproduce: build ## published continual-learning tables again, e.g. make reproduce ROW=1 SEEDS=1 JOBS=2
	@command -v python3 >/dev/null || { echo "python3 is missing: apt-get install python3"; exit 1; }
	@Experiments/published/reproduce.py --retain $(BIN) $(if $(ROW),--row $(ROW)) $(if $(METHOD),--method $(METHOD)) \
	  $(if $(SEEDS),--seeds $(SEEDS)) $(if $(JOBS),--jobs $(JOBS))

clean: ## remove build products; runs/ stays
	rm -rf .build
