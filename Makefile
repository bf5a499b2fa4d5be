# What a person does with this repository. Everything happens in .venv, which `uv` makes from the
# lock file; uv itself comes from PyPI where the machine has none.

.DEFAULT_GOAL := help
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN = $(UV) run --frozen --all-extras
export UV_PYTHON_PREFERENCE ?= system

.PHONY: help run failover test check chaos figures example bench-client format bench clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

run: .venv ## watch pg_status__hosts; without it, a demo cluster made for the occasion
	@if [ -n "$$pg_status__hosts" ]; then exec .venv/bin/pg-status; \
	else exec .venv/bin/pg-status demo $(DEMO); fi

failover: .venv ## crash the primary of the running demo
	@exec .venv/bin/pg-status failover

test: .venv ## all tests, against real PostgreSQL clusters
	$(RUN) pytest $(TESTS)

check: .venv ## lint, types, tests
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(RUN) pytest $(TESTS)

SECONDS ?= 180
chaos: .venv ## random failures for SECONDS; SEED=n replays, URL=… compares another pg-status
	$(RUN) python -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) \
		$(if $(SLEEP_MS),--sleep-ms $(SLEEP_MS)) $(foreach url,$(URL),--url $(url))

figures: .venv ## the figures of docs/failover.md
	$(RUN) python -m tests.chaos.figures

example: .venv ## the example service on the running demo: http://127.0.0.1:8080/docs
	@exec .venv/bin/uvicorn examples.fastapi.app:app --port 8080

bench-client: .venv ## what the client and the sessions cost
	$(RUN) python -m bench.client_overhead

format: .venv ## put the source in order
	$(RUN) ruff check --fix
	$(RUN) ruff format

bench: .venv ## ours beside its peers, into docs/performance.md; BENCH="--rounds 1" for a glance
	$(RUN) python -m bench $(BENCH)

clean: ## remove what was made
	rm -rf .venv .uv dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv: uv.lock pyproject.toml | $(UV)
	$(UV) sync --frozen --all-extras
	@touch .venv

.uv/bin/uv:
	@python3 -m venv .uv || { echo "python3 lacks the venv module; on Debian: apt-get install python3-venv"; exit 1; }
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check uv
