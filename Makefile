# titans-stream: `make help` lists what there is.
#
# PYTHON     the Python that makes .venv (3.11 or newer)
# PIP_ARGS   passed on to pip, e.g. PIP_ARGS="--extra-index-url URL" for CPU-only torch wheels
# ARGS       passed on to the demo or to pytest
# KERNELS    where `make kernels` puts compiled kernels; GPUS: compute capabilities, too
# PROCESSES  how many processes run the tests; 0: this one alone (for a debugger)
PYTHON ?= python3
PIP_ARGS ?=
ARGS ?=
PROCESSES ?= 3
NODES ?= 1
MLFLOW_PORT ?= 5000
FUZZ_SECONDS ?= 600
KERNELS ?= build/kernels
GPUS ?=
VENV := .venv
BIN := $(VENV)/bin
KAFKA_DIR := .kafka
PARALLEL := -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all fuzz lint format kafka kafka-stop mlflow schemas kernels wheel clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "titans-stream needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[ui]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[test]'
	@touch $@

install: $(VENV)/.installed ## make .venv and install the package into it, the page too

demo: install ## run the service on live metrics of this machine: make demo ARGS="--seconds 60 --plain"
	@$(BIN)/titans-stream demo $(ARGS)

test: $(VENV)/.installed-test ## all tests but the long ones, with a real Kafka where one can be had
	@scripts/with-kafka.sh $(BIN)/python -m pytest $(PARALLEL) -m "not slow" $(ARGS)

test-all: $(VENV)/.installed-test ## every test, the long ones too
	@scripts/with-kafka.sh $(BIN)/python -m pytest $(PARALLEL) --timeout 3600 $(ARGS)

fuzz: $(VENV)/.installed-test ## made messages, files, settings and snapshots for FUZZ_SECONDS (600)
	@FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest tests/fuzz --timeout 7200 $(ARGS)

lint: $(VENV)/.installed-test ## ruff and mypy
	$(BIN)/ruff check titans_stream tests benchmarks
	$(BIN)/ruff format --check titans_stream tests benchmarks
	$(BIN)/mypy

format: $(VENV)/.installed-test ## let ruff format and fix
	$(BIN)/ruff format titans_stream tests benchmarks
	$(BIN)/ruff check --fix titans_stream tests benchmarks

kafka: ## start Apache Kafka on loopback (NODES=3 for three) and print its address
	@$(PYTHON) scripts/kafka.py start --nodes $(NODES) --dir $(KAFKA_DIR)

mlflow: install ## an MLflow server on this machine (http://127.0.0.1:5000): mlflow.db, mlartifacts/
	@MLFLOW_DISABLE_TELEMETRY=true $(BIN)/mlflow server --host 127.0.0.1 --port $(MLFLOW_PORT) \
	  --backend-store-uri sqlite:///mlflow.db --artifacts-destination ./mlartifacts $(ARGS)

kafka-stop: ## stop it
	@$(PYTHON) scripts/kafka.py stop --dir $(KAFKA_DIR)

schemas: $(VENV)/.installed ## write the JSON schemas of docs/schemas anew
	$(BIN)/python -m titans_stream.schemas docs/schemas

kernels: $(VENV)/.installed ## compile kernels ahead, those of GPUs, too: make kernels GPUS="8.0 8.6 8.9 9.0"
	XDG_CACHE_HOME=$(abspath $(KERNELS)) $(BIN)/python -m titans_stream.engine.device.prebuilt --forecasts \
	  --capability $(GPUS)

wheel: $(BIN)/python ## build the wheel into dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean: ## stop Kafka, remove .venv, build output and caches
	-@$(PYTHON) scripts/kafka.py clean --dir $(KAFKA_DIR)
	rm -rf $(VENV) $(KAFKA_DIR) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
