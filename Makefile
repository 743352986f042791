# Everything that is done with this repository, by name. The environment of a run is in compose/native.env and test.env.
PYTHON ?= python3
UV_VERSION := 0.13.9
PIP := .venv/bin/python -m pip --quiet --disable-pip-version-check
LOCK := .venv/bin/uv pip compile --quiet --generate-hashes --python-version 3.11.7 --no-emit-index-url --no-strip-extras --no-header
# celery-exporter runs on 3.11 and 3.12 alone: make EXPORTER_PYTHON=python3.12 monitor
EXPORTER_PYTHON ?= $(PYTHON)
EXPORTER := compose/celery-exporter
STRAWBERRY := tests/benchmarks/strawberry
COMPILED := apps/rules/engine
# What is compared with us, each in an environment of its own.
PEERS := bytewax vectorbt
# Blank is the default of each: SQLite, the broker in the process, the cache in the process.
EMBEDDED := DATABASE_URL= CELERY_BROKER_URL= REDIS_URL=

# Tests start many processes; each would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help env up down backup restore image-digests compose-test venv venv-dev venv-product demo services browser monitoring prometheus-versions celery-exporter strawberry dev monitor flower check test test-on coverage faults soak bench bench-peers lint lock release clean
.DELETE_ON_ERROR:

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

demo: venv ## Run everything in one process with nothing but Python; options: make demo ARGS="--help"
	@$(EMBEDDED) .venv/bin/python manage.py demo $(ARGS)

env: ## Write .env with new secrets for the containers; a .env that is there is only added to
	@$(PYTHON) compose/environment.py

up: env ## Run everything in containers, http://localhost:8080; with an invented market: make up ARGS=--demo
	@$(PYTHON) compose/up.py $(ARGS)

down: ## Stop the containers; their data stays
	@docker compose down $(ARGS)

backup: ## Write the containers' database, and .env encrypted by BACKUP_PASSPHRASE, to the folder backups
	@$(PYTHON) compose/backup.py backup $(ARGS)

restore: ## Put a backup in the place of the containers' database; nothing is sent before make up: make restore FILE=…
	@$(PYTHON) compose/backup.py restore "$(FILE)"

image-digests: ## Write the digest of each image of others beside its tag, as the registries have it now
	@$(PYTHON) compose/digests.py

compose-test: venv-dev ## Build the image and try the containers: sign in, kill each, compare; needs a Docker engine
	@tests/compose/run.sh $(ARGS)

services: venv-dev ## Have PostgreSQL, RabbitMQ and Redis on loopback (installed as root on Debian)
	@compose/services.sh

browser: venv-dev ## Have a Chromium for the browser tests (installed as root on Debian)
	@compose/browser.sh

monitoring: services celery-exporter ## Have the programs of Prometheus, Alertmanager and exporters, and RabbitMQ's metrics
	@compose/monitoring.sh

prometheus-versions: ## Have promtool and amtool of newer Debians, unpacked in var, for the tests of prometheus/; left out where not reached
	@compose/prometheus-versions.sh

celery-exporter: .venv-celery-exporter/.installed ## Have celery-exporter, in an environment of its own

strawberry: .venv-strawberry/.installed ## Have Strawberry, for its benchmark, in an environment of its own behind which .venv stands

# --env: honcho would read a .env over what compose/native.env says.
dev: services ## Run web, workers and beat on these servers, http://127.0.0.1:8000; elsewhere: make dev PORT=8001
	@. compose/native.env && .venv/bin/python manage.py migrate --verbosity 0 && .venv/bin/honcho --app-root . --procfile compose/Procfile --env /dev/null start --port $${PORT:-8000}

monitor: monitoring ## Run Prometheus (http://127.0.0.1:9090), Alertmanager (9093) and exporters beside a running make dev
	@mkdir -p var/prometheus var/alertmanager && .venv/bin/honcho --app-root . --procfile compose/Procfile.monitoring --env /dev/null start

flower: venv ## Show the workers and tasks of a running make dev; it prints its address and password
	@compose/flower.sh

# The folders whose tests without servers are known to pass on SQLite.
CHECKED := $(addprefix tests/,accounts alerts api backtests golden health market metrics monitoring notify project rules sources)

check: lint ## Lint, and run most of the tests that need no server, on SQLite; some of them: make check ARGS=tests/rules
	@$(EMBEDDED) .venv/bin/pytest -q -n 2 -m "not servers and not browser" $(or $(ARGS),$(CHECKED))

# The embedded half first: what touches rows, on SQLite. The second run has every test, so its closing line is the whole truth.
test: services browser monitoring prometheus-versions venv-product strawberry ## Run all tests, those of the embedded run on SQLite too; some of them: make test ARGS="tests/api -k order"
	@$(if $(ARGS),,echo "test: without servers (SQLite)" && $(EMBEDDED) .venv/bin/pytest -q -n 2 -m "django_db and not servers" tests/market tests/sources tests/rules tests/backtests tests/alerts tests/notify tests/golden tests/api/test_alert_streams.py $(EMBEDDED_COVERAGE))
	@echo "test: on PostgreSQL, RabbitMQ and Redis"
	@. compose/test.env && .venv/bin/pytest -n 3 $(COVERAGE) $(ARGS)

test-on: ## Run the tests of the last commit on another Python, in a checkout of its own: make test-on PYTHON=python3.13
	@rm -rf var/checkout && git clone --quiet . var/checkout
	@$(MAKE) --no-print-directory -C var/checkout test

coverage: venv-dev ## Run all tests and report which lines they reach; takes twice as long
	@.venv/bin/coverage erase
	@$(MAKE) --no-print-directory test EMBEDDED_COVERAGE="--cov=apps --cov=fintech --cov-report=" COVERAGE="--cov=apps --cov=fintech --cov-append --cov-report=term-missing:skip-covered"

faults: services ## Inject every fault at full size and print what came of it; fewer or smaller runs: make faults SEEDS=3 SIZE=quick
	@. compose/test.env && FAULT_SIZE=$(SIZE) FAULT_SEEDS=$(or $(SEEDS),20) .venv/bin/pytest -q -s tests/faults/test_matrix.py $(ARGS)

soak: services ## Work for two hours, kill a child of a worker each minute, and print what every process took; shorter: make soak MINUTES=10
	@mkdir -p var && . compose/test.env && SOAK_MINUTES=$(or $(MINUTES),120) .venv/bin/pytest -q -s --basetemp=var/soak tests/faults/test_soak.py $(ARGS)

bench: services strawberry ## Run the benchmarks at full size and print their figures
	@. compose/test.env && BENCH_SIZE=full .venv/bin/pytest tests/benchmarks -s $(ARGS)

bench-peers: monitoring $(PEERS:%=.venv-%/.installed) ## Measure the same work on Prometheus, Bytewax, pandas, vectorbt and a task per quote; print one table
	@. compose/test.env && BENCH_SIZE=$(or $(SIZE),full) .venv/bin/pytest -q tests/benchmarks/peers/test_peers.py -s $(ARGS)

lint: venv-dev ## Check style, layers, types, the files of Docker, Compose, Kubernetes and GitLab, and that models and migrations agree
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/lint-imports
	@.venv/bin/mypy
	@.venv/bin/hadolint compose/Dockerfile compose/celery-exporter/Dockerfile
	@.venv/bin/check-jsonschema --quiet --builtin-schema vendor.compose-spec compose/docker-compose.yml compose/tls.yml
	@.venv/bin/kubernetes-validate --strict --quiet -k 1.34 compose/kubernetes/[!k]*.yaml
	@.venv/bin/check-jsonschema --quiet --builtin-schema vendor.gitlab-ci --data-transform gitlab-ci .gitlab-ci.yml
	@# It runs Django's own checks too.
	@$(EMBEDDED) .venv/bin/python manage.py makemigrations --check --dry-run

lock: .venv/bin/python ## Write requirements*.txt anew from pyproject.toml; newer versions: make lock ARGS=--upgrade
	@$(PIP) install uv==$(UV_VERSION)
	@$(LOCK) $(ARGS) pyproject.toml -o requirements.txt
	@$(LOCK) $(ARGS) pyproject.toml --extra dev -c requirements.txt -o requirements-dev.txt
	@$(subst 3.11.7,3.11,$(LOCK)) $(ARGS) $(EXPORTER)/requirements.in -o $(EXPORTER)/requirements.txt
	@$(LOCK) $(ARGS) $(STRAWBERRY)/requirements.in -o $(STRAWBERRY)/requirements.txt
	@for peer in $(PEERS); do $(LOCK) $(ARGS) tests/benchmarks/peers/$$peer/requirements.in -o tests/benchmarks/peers/$$peer/requirements.txt; done

release: ## Write the changelog's section and the version, commit and tag: make release VERSION=1.2.3
	@$(PYTHON) compose/release.py "$(VERSION)"

venv: .venv/.installed node_modules/.installed $(COMPILED)/.compiled ## Have .venv with what the product needs

venv-dev: .venv/.installed-dev node_modules/.installed $(COMPILED)/.compiled ## Have .venv with what its development needs too

venv-product: .venv-product/.installed ## Have .venv-product with what the product needs and nothing else, for its test

clean: ## Remove caches and reports (not .venv, not the data in var)
	@rm -rf .coverage .coverage.* htmlcov .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	@find . -path ./.venv -prune -o -type d -name __pycache__ -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, and '$(PYTHON)' is not that: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@echo "venv: creating .venv"
	@$(PYTHON) -m venv .venv

.venv/.installed: requirements.txt | .venv/bin/python
	@echo "venv: installing requirements.txt"
	@$(PIP) install --require-hashes -r requirements.txt
	@touch $@

# It is no condition of anything: without it the engine runs in Python. So it is tried again each time, until it is there.
$(COMPILED)/.compiled: $(COMPILED)/_compiled.c compose/compile_engine.py .venv/pyvenv.cfg
	@.venv/bin/python compose/compile_engine.py --stamp $@

.venv/pyvenv.cfg: | .venv/bin/python ;

.venv-product/.installed: requirements.txt
	@echo "venv-product: installing requirements.txt"
	@$(PYTHON) -m venv .venv-product
	@.venv-product/bin/python -m pip --quiet --disable-pip-version-check install --no-compile --require-hashes -r requirements.txt
	@touch $@

.venv-celery-exporter/.installed: $(EXPORTER)/requirements.txt
	@$(EXPORTER_PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || \
	  { echo "celery-exporter needs Python 3.11 or 3.12, and '$(EXPORTER_PYTHON)' is neither: make EXPORTER_PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "celery-exporter: installing $(EXPORTER)/requirements.txt"
	@$(EXPORTER_PYTHON) -m venv .venv-celery-exporter
	@.venv-celery-exporter/bin/python -m pip --quiet --disable-pip-version-check install --require-hashes -r $(EXPORTER)/requirements.txt
	@touch $@

# It names the product's packages as well, in the same versions.
.venv/.installed-dev: requirements-dev.txt | .venv/bin/python
	@echo "venv: installing requirements-dev.txt"
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@

# What the page at /graphql and the charts of assets are drawn with. It is no condition of anything: without it, that page
# asks a CDN, and the charts are plain.
node_modules/.installed: package-lock.json
	@if ! command -v npm > /dev/null; then echo "npm: not here, so the page at /graphql takes GraphiQL from a CDN, and charts are plain"; \
	elif npm ci --ignore-scripts --no-audit --no-fund --prefer-offline --fetch-retries=1 --loglevel=error > /dev/null; then touch $@; echo "npm: installed package-lock.json"; \
	else echo "npm: it failed, so the page at /graphql takes GraphiQL from a CDN, and charts are plain"; fi

.venv-strawberry/.installed: $(STRAWBERRY)/requirements.txt | venv-dev
	@echo "strawberry: installing $(STRAWBERRY)/requirements.txt"
	@.venv/bin/python -m venv .venv-strawberry
	@.venv-strawberry/bin/python -m pip --quiet --disable-pip-version-check install --require-hashes -r $(STRAWBERRY)/requirements.txt
	@.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$$(.venv-strawberry/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/product.pth"
	@touch $@

$(PEERS:%=.venv-%/.installed): .venv-%/.installed: tests/benchmarks/peers/%/requirements.txt
	@echo "$*: installing $<"
	@$(PYTHON) -m venv .venv-$*
	@.venv-$*/bin/python -m pip --quiet --disable-pip-version-check install --require-hashes -r $<
	@touch $@
