# Everything people and CI run. `make test` and `make demo` each work as the only command on a fresh machine.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help env demo test fmt lint type gen docs bench bench-stores bench-transfer bench-admission crash model sanitize fuzz clean

BIN := .venv/bin
ARGS ?=
CXX_FILES = $(wildcard prefixdb/_native/*.cc prefixdb/_native/*.h prefixdb/_native/front/*.cc prefixdb/_native/front/*.h tests/native/*.cc tests/native/*.h)

# What only the benchmark needs: the extra `bench` of pyproject.toml.
BENCH_PACKAGES = $(shell $(BIN)/python -c 'import shlex, tomllib; print(shlex.join(tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["bench"]))')

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: ## make or renew the virtual environment in .venv
	@tools/setup_env.sh

demo: env ## start a server on real data; show isolation, ban and proven reclaim
	@$(BIN)/python tools/demo/demo.py $(ARGS)

test: env ## run every test (ARGS="tests/store -x" runs fewer)
	@$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

fmt: env ## format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
	@$(BIN)/clang-format -i $(CXX_FILES)

lint: env ## look for mistakes in code, protos and imports
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)
	@$(BIN)/buf lint proto
	@$(BIN)/lint-imports

type: env ## check types
	@$(BIN)/mypy

gen: env ## generate prefixdb/v1, the sync client and the generated pages of docs/
	@$(BIN)/python tools/gen_proto.py
	@$(BIN)/python tools/gen_front.py
	@$(BIN)/python tools/async_to_sync.py
	@$(BIN)/python tools/gen_docs.py

docs: gen ## alias: the generated pages of docs/ are made by gen

bench: env ## measure against etcd, redis, RocksDB and nghttpd in one run (ARGS="--quick" for two minutes)
	@$(BIN)/python -c 'import hiredis, matplotlib, redis' 2>/dev/null || \
		$(BIN)/pip install --quiet --disable-pip-version-check -c tools/constraints.txt $(BENCH_PACKAGES)
	@$(BIN)/python -m tools.bench.page $(ARGS)

bench-stores: env ## measure the native store against the rocksdict store in the same run
	@$(BIN)/python tools/bench/compare_stores.py $(ARGS)

bench-transfer: env ## measure backup, export and load against cp, sha256sum and rocksdict alone
	@$(BIN)/python tools/bench/transfer.py $(ARGS)

bench-admission: env ## measure what members and groups cost a token's calls
	@$(BIN)/python tools/bench/admission.py $(ARGS)

crash: env ## kill a loaded server again and again and check what is left (ARGS="--rounds 50")
	@$(BIN)/python tools/crash/crash.py $(ARGS)

model: env ## long random run against the model (ARGS="--operations 100000")
	@$(BIN)/python tools/crash/model.py $(ARGS)

sanitize: env ## run the C++ tests under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer
	@$(MAKE) --no-print-directory -C tests/native -j2 BUILD=asan
	@$(MAKE) --no-print-directory -C tests/native check BUILD=asan
	@$(MAKE) --no-print-directory -C tests/native -j2 BUILD=tsan
	@$(MAKE) --no-print-directory -C tests/native check BUILD=tsan

fuzz: ## feed the front's readers with clang's libFuzzer (ARGS="SECONDS=3600 TARGET=fuzz_connection")
	@$(MAKE) --no-print-directory -C tests/native -j2 BUILD=fuzz fuzz $(ARGS)

clean: ## remove what was built, the environment included
	@rm -rf .venv build dist tests/native/build tests/interop/node_modules prefixdb/_native/module.*.so *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
