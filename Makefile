# Two commands do everything: `make up` runs the main job, `make test` passes the tests. Both install what they need.
PYTHON ?= python3
STACK ?= local
FILE ?= README.md
PY := .venv/bin/python
TESTS := tests/fast tests/pulumi tests/servers tests/e2e

# Neither tests nor benchmarks call home where they load ONNX Runtime by themselves.
export ORT_DISABLE_TELEMETRY ?= 1

# Compiled test modules are kept between runs also where the shell says otherwise: they cost a third of the quick run.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: up down test test-fast test-gpu lint lock bench help

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

up: .venv/.installed ## Everything: tools, cluster, images, pulumi up, and a real prediction at the end
	@$(PY) -m gpuserve_embedded up --stack "$(STACK)" --file "$(FILE)"

down: .venv/.installed ## Leave nothing behind (with your own cluster: pulumi destroy)
	@$(PY) -m gpuserve_embedded down --stack "$(STACK)"

# The cluster's tests in one process, all others beside them in another: tests/e2e/e2e_sharing.py shares them out.
test: .venv/.installed ## Every test, with a real cluster (root); ends the cluster of `make up`
	@$(PY) -m gpuserve_embedded prepare --tests
	@$(PY) -m pytest $(TESTS) -n 2 --dist loadscope

# No part of `make test`: it needs a GPU, a driver of 580 or later, and TensorRT from NVIDIA's own index.
test-gpu: .venv/.installed ## The tests of TensorRT on a GPU of this machine
	@$(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["tensorrt"])' \
	  | xargs $(PY) -m pip install --quiet
	@$(PY) -m pytest tests/gpu

test-fast: .venv/.installed ## The tests that need neither root nor a cluster, under a minute
	@$(PY) -m pytest $(TESTS) -m "not e2e and not slow" -n auto --dist loadfile

lint: .venv/.installed ## Format, lint and types
	@.venv/bin/ruff format --check . && .venv/bin/ruff check . && .venv/bin/pyright

bench: .venv/.installed ## Every benchmark; writes benchmarks/results.json and the table in the README
	@$(PY) -m benchmarks

# Without export-torch and export-tensorflow, which are gigabytes, and tensorrt, whose wheels are on NVIDIA's own index.
EXTRAS := sources quickstart gpu tensorrt-rtx torchserve export-sklearn export-xgboost export-lightgbm signing

lock: ## Pin every dependency with hashes from pyproject.toml
	uv pip compile pyproject.toml $(EXTRAS:%=--extra %) --group dev --python-version 3.11 --universal --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header -o requirements.lock

# The stamp is written last, so an installation that was cut off is made again.
.venv/.installed: requirements.lock pyproject.toml
	@echo "Python environment: installing from requirements.lock ..."
	@sh embedded/venv.sh $(PYTHON)
	@touch $@
