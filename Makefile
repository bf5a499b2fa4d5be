# What a person does with this repository. Everything happens in .venv, which `uv` makes from the
# lock file; uv itself comes from PyPI where the machine has none.

.DEFAULT_GOAL := help
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN = $(UV) run --frozen --all-extras
export UV_PYTHON_PREFERENCE ?= system

.PHONY: help run failover test check chaos figures example bench-client unasync format bench \
	wheels test-wheels deb test-deb images test-images clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

run: .venv ## watch pg_status__hosts; without it, a demo cluster made for the occasion
	@if [ -n "$$pg_status__hosts" ]; then exec .venv/bin/pg-status; \
	else exec .venv/bin/pg-status demo $(DEMO); fi

failover: .venv ## crash the primary of the running demo
	@exec .venv/bin/pg-status failover

# Side by side, each file on one side: most of them wait for servers most of the time.
PYTEST = $(RUN) pytest --numprocesses 3 --dist loadfile

test: .venv ## all tests, against real PostgreSQL clusters; TESTS=tests/unit for a part
	$(PYTEST) $(TESTS)

check: .venv ## lint, types, tests
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(PYTEST) $(TESTS)

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

unasync: .venv ## make the synchronous client from the asynchronous one
	$(RUN) python -m tests.support.unasynced

format: .venv ## put the source in order
	$(RUN) ruff check --fix
	$(RUN) ruff format

bench: .venv ## ours beside its peers, into docs/performance.md; BENCH="--rounds 1" for a glance
	UV=$(UV) $(RUN) python -m bench $(BENCH)

# $(call need,programs,packages): say which Debian packages to install where a program is missing.
define need
@for program in $(1); do command -v $$program > /dev/null || \
	{ echo "$$program is missing; on Debian: apt-get install $(2)"; exit 1; }; done
endef

wheels: | $(UV) ## dist/: pg-status, and pg-status-client for applications
	$(UV) build --quiet --all-packages --out-dir dist

test-wheels: .venv ## install the wheels side by side, beside an older gunicorn and psycopg
	$(RUN) pytest tests/packaging/test_wheels.py

deb: | $(UV) ## dist/pg-status_VERSION_amd64.deb
	$(call need,dpkg-buildpackage dh dh_python3,debhelper dh-python)
	UV=$(UV) packaging/deb/build

test-deb: .venv ## as root: install, break, upgrade and purge it on Debian 12 and 13
	$(call need,dpkg-buildpackage dh dh_python3,debhelper dh-python)
	$(call need,lintian debootstrap systemd-nspawn,lintian debootstrap systemd-container)
	$(RUN) pytest tests/packaging/test_deb.py

IMAGES ?= alpine ubuntu
images: ## pg-status:alpine and pg-status:ubuntu, with docker, podman or buildah
	engine=$$(for one in docker podman buildah; do \
		$$one info >/dev/null 2>&1 && echo $$one && break; done) || \
		{ echo "none of docker, podman and buildah works here" >&2; exit 1; } && \
	version=$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' src/pgstatus/__init__.py) && \
	for name in $(IMAGES); do $$engine build --file Dockerfile.$$name --tag pg-status:$$name \
		--build-arg VERSION=$$version --build-arg REVISION=$$(git rev-parse HEAD) . || exit 1; done

test-images: .venv ## as root: build and run them without a registry
	$(call need,debootstrap buildah crun,debootstrap buildah crun)
	$(RUN) pytest tests/packaging/test_images.py

clean: ## remove what was made
	rm -rf .venv .uv dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv: uv.lock pyproject.toml packaging/client/pyproject.toml | $(UV)
	$(UV) sync --frozen --all-extras --compile-bytecode
	@touch .venv

.uv/bin/uv:
	@python3 -m venv .uv || { echo "python3 lacks the venv module; on Debian: apt-get install python3-venv"; exit 1; }
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check uv
