# Every target does its own set-up. Cargo is always asked for the whole workspace, so that dependencies are built with
# one set of features, once. Build output stays out of the checkout: CACHE=/some/folder moves it.

XDG_CACHE_HOME ?= $(HOME)/.cache
CACHE ?= $(XDG_CACHE_HOME)/retrace
export CARGO_TARGET_DIR := $(CACHE)/target
export PATH := $(HOME)/.cargo/bin:$(PATH)
export RETRACE_CLIENTS := $(CACHE)/clients
export RETRACE_KAFKA := $(CACHE)/kafka
export RETRACE_S3 := $(CACHE)/s3
export RETRACE_VAULT := $(CACHE)/vault
export RETRACE_CLICKHOUSE := $(CACHE)/clickhouse
export RETRACE_PREVIOUS := $(CACHE)/previous
export RETRACE_ENGINES := $(CACHE)/engines
export RETRACE_DEPLOY := $(CACHE)/deploy
export RETRACE_GO := $(CACHE)/go
export RETRACE_DAY := $(CACHE)/day

CARGO = cargo
E2E = $(CARGO) test --locked --workspace --test e2e --

.DEFAULT_GOAL := help
.PHONY: help setup servers build demo cluster test lint matrix bench fuzz soak day proto golden clean

help: ## Show this list
	@echo 'Retrace: an access gateway that takes everything down.'
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{ printf "  make %-7s %s\n", $$1, $$2 }'
	@echo
	@echo 'Build output: $(CACHE)   (CACHE=/some/folder changes it)'

setup: ## Install what the machine lacks: a C compiler, PostgreSQL, the pinned toolchain
	@scripts/setup

build: setup
	@$(CARGO) build --locked --workspace --bins

demo: build ## Show the whole path once: psql, the gate, the evidence, a replay
	@$(CARGO_TARGET_DIR)/debug/demo

cluster: servers build ## Start three brokers and an S3 server to try services on by hand, until Ctrl-C
	@$(CARGO_TARGET_DIR)/debug/cluster

servers: setup
	@scripts/kafka '$(RETRACE_KAFKA)'
	@scripts/s3-server '$(RETRACE_S3)'
	@scripts/vault-server '$(RETRACE_VAULT)'

test: servers build ## Run every test, end-to-end on scratch PostgreSQL, Kafka, S3 and Vault servers included
	@scripts/fault-tools
	@scripts/deploy-tools '$(RETRACE_DEPLOY)'
	@scripts/clients '$(RETRACE_CLIENTS)'
	$(CARGO) test --locked --workspace

lint: setup ## Check formatting, lints, layers and licences
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) test --locked --workspace --test tidy
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --locked check; \
	else echo 'cargo-deny is not installed; tidy checked licences, bans and duplicates'; fi

matrix: build ## Compare clients with and without the gate, and other engines on the table with `retrace sql`
	@scripts/clients '$(RETRACE_CLIENTS)' matrix
	@scripts/s3-server '$(RETRACE_S3)'
	@scripts/engines '$(RETRACE_ENGINES)'
	@$(CARGO_TARGET_DIR)/debug/matrix
	@$(CARGO_TARGET_DIR)/debug/engines

bench: servers ## Measure, into docs/numbers*.md; QUICK=1 tries it out, PARTS=gate or PARTS=cluster chooses
	@scripts/bench-tools '$(RETRACE_CLICKHOUSE)'
	@$(CARGO) build --locked --release --workspace --bins
	@QUICK='$(QUICK)' $(CARGO_TARGET_DIR)/release/bench $(PARTS)

SECONDS ?= 60
fuzz: setup ## Fuzz frames, types, detectors and statements, SECONDS=60 each
	@scripts/fuzz '$(CACHE)/fuzz' '$(SECONDS)' $(TARGETS)

soak: servers build ## Run 1,000 seeds of ingest, end-to-end tests with 50 kills, each fault 20 times, two releases, then a day
	@scripts/fault-tools
	@scripts/deploy-tools '$(RETRACE_DEPLOY)'
	@scripts/previous-release '$(RETRACE_PREVIOUS)'
	RETRACE_SOAK=1 $(CARGO) test --locked --workspace --test ingest -- --nocapture
	RETRACE_SOAK=1 $(E2E) --nocapture --include-ignored
	@MINUTES='$(MINUTES)' $(CARGO_TARGET_DIR)/debug/day

MINUTES ?= 60
day: servers build ## Have a day's load in an hour and see what grows, into docs/day.md; MINUTES=5 tries it out
	@MINUTES='$(MINUTES)' $(CARGO_TARGET_DIR)/debug/day

proto: setup ## Generate the Rust code of the .proto files again
	RETRACE_BLESS=1 $(CARGO) test --locked --workspace --test codegen

golden: setup ## Keep a table and a log of a format that is new, for the tests of all later releases
	RETRACE_BLESS=1 $(CARGO) test --locked --workspace --test lake --test golden that_is_written_is_kept

clean: ## Remove the build output
	rm -rf '$(CARGO_TARGET_DIR)' '$(RETRACE_CLIENTS)' '$(RETRACE_KAFKA)' '$(RETRACE_S3)' '$(RETRACE_VAULT)' \
		'$(RETRACE_PREVIOUS)' '$(RETRACE_ENGINES)' '$(RETRACE_DEPLOY)' '$(RETRACE_GO)' '$(RETRACE_DAY)'
