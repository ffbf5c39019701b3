# Every target does its own set-up: a virtual environment with locked dependencies. Only make and Python 3.11+ are needed.
.DEFAULT_GOAL := help
PYTHON ?= python3
BOOT = $(PYTHON) deploy/local/bootstrap.py
VENV = .venv/bin
N ?= 2000
KAFKA ?= embedded
KILLS ?= 0
DUPLICATES ?= 10
RATE ?= 0
WORKERS ?= 1
PAUSES ?= 0
WARM ?= 0
WEBHOOKS ?= 0
BATCH ?= 5
REPLIES ?= -1
JOBS ?= 3
export PORT DATA MONGO KAFKA

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: ## everything on this machine, with a story to watch: no Docker, no Java (ARGS=--once PORT= DATA= KAFKA= MONGO=)
	@$(BOOT) demo && $(VENV)/python -m deploy.local.demo $(ARGS)

test: ## all tests that need no Docker and no browser
	@$(BOOT) dev && $(VENV)/pytest -m "not docker and not browser" -n $(JOBS) --dist loadfile $(ARGS)

check: ## lint, format, types, layers
	@$(BOOT) dev && $(VENV)/ruff check . && $(VENV)/ruff format --check . && $(VENV)/mypy && $(VENV)/lint-imports

fmt: ## format and mend what can be mended
	@$(BOOT) dev && $(VENV)/ruff check --fix . ; $(VENV)/ruff format .

test-browser: ## the console and the widget in a real Chromium
	@$(BOOT) dev && $(VENV)/pytest -m browser $(ARGS)

test-docker: ## Apache Kafka and MongoDB in containers: crashes, rebalances, loss
	@$(BOOT) dev && TESTCONTAINERS_RYUK_DISABLED=true $(VENV)/pytest -m docker $(ARGS)

load: ## N signed webhooks of all channels, checked one by one (N= KAFKA=embedded|apache KILLS= DUPLICATES= RATE= WORKERS= PAUSES= WARM= WEBHOOKS= BATCH= REPLIES=)
	@$(BOOT) dev && $(VENV)/python -m tests.load N=$(N) KAFKA=$(KAFKA) KILLS=$(KILLS) DUPLICATES=$(DUPLICATES) RATE=$(RATE) WORKERS=$(WORKERS) PAUSES=$(PAUSES) WARM=$(WARM) WEBHOOKS=$(WEBHOOKS) BATCH=$(BATCH) REPLIES=$(REPLIES)

bench: ## each stage beside the bare version of the same work, on Apache Kafka (STAGES=webhook,identity,router,timeline)
	@$(BOOT) dev && $(VENV)/python -m tests.benchmarks $(if $(STAGES),STAGES=$(STAGES))

up: ## the whole in containers: Apache Kafka, MongoDB, services, Prometheus
	docker compose up --build --wait

down: ## stop the containers
	docker compose down

lock: ## write requirements/*.txt anew from pyproject.toml (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" pyproject.toml -o requirements/base.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" --extra embedded pyproject.toml -o requirements/demo.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" --extra embedded --extra test pyproject.toml -o requirements/dev.txt

.PHONY: help demo test check fmt test-browser test-docker load bench up down lock
