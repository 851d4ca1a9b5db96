# The two commands for a fresh machine are `make demo` and `make test`; each makes its own virtual environment.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Two processes more than cores, because tests spend a third of their time waiting for other processes.
XDIST ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 2)
# The tests on a real Conductor mostly wait for it. Failed tests are run once more.
LIVE_XDIST ?= 2
# Scenarios that are compared with recordings compute next to nothing; some wait half a minute for a timer of the server.
CONFORMANCE_XDIST ?= 12
# Tests start hundreds of processes. With PYTHONDONTWRITEBYTECODE each of them would compile the sources.
COMPILE = $(BIN)/python -m compileall -q -j 0 src
# Each process of pytest-xdist imports all tests. This rewrites their assertions once for all of them.
REWRITE = env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest --collect-only -qq -p no:cacheprovider >/dev/null 2>&1

.DEFAULT_GOAL := help
.PHONY: help demo test exhaustive soak this-python other-plugins sdks complete-types deploy-files wheels docs screenshots wheel format audit live live-ci chaos mixed-versions conformance conformance-live differential conductor lakefs clean

help:
	@echo "make demo         run the bundled sample workflow on real data; with its own servers"
	@echo "make test         format check, lint, types, import rules and all tests"
	@echo "make docs         build the site of docs/ in build/site; fails on a broken link"
	@echo "make screenshots  make the pictures in docs/images (those of the console need Chromium)"
	@echo "make exhaustive   run the worlds of the simulation that make test leaves out"
	@echo "make soak         run a day's load, 20,000 attempts, on embedded servers; prints whether the worker stays flat"
	@echo "make this-python  run the tests that can differ between Python versions"
	@echo "make other-plugins  test the plugin next to other plugins, on the oldest and the newest pytest"
	@echo "make sdks         run scripts of the official SDKs, the oldest and the newest supported, on embedded servers"
	@echo "make complete-types  check that every name of the packages has a type that editors and type checkers know"
	@echo "make deploy-files  check the files in deploy/ with validators of Docker, Compose, Kubernetes, Prometheus and systemd"
	@echo "make wheels       check that all packages have binary wheels for each Python and platform (needs the network)"
	@echo "make wheel        build a wheel to install perago from, and print how (README.md, Install)"
	@echo "make format       reformat the code"
	@echo "make audit        look up known vulnerabilities of the installed packages (needs the network)"
	@echo "make live         run the end-to-end suite on the configured Conductor and lakeFS (docs/dev/live.md)"
	@echo "make live-ci      run it without chaos on its own Conductor (needs Maven and JDK 21 or later); lakeFS: LAKEFS_BIN, or embedded"
	@echo "make chaos        play rounds of chaos for CHAOS_MINUTES (default 5) on the same servers"
	@echo "make mixed-versions  let workers of this version and of the one before work on the same branches, under kills"
	@echo "make conductor    start a real Conductor to record from (needs Maven and JDK 21 or later); Ctrl-C ends it"
	@echo "make lakefs       start the lakeFS binary that LAKEFS_BIN names, to record from; Ctrl-C ends it"
	@echo "make conformance  compare the embedded services with recordings and a real Conductor (docs/dev/conformance.md)"
	@echo "make differential run only its last part, random conversations"
	@echo "make clean        remove the virtual environments"

demo: $(VENV)/.installed
	@echo "== perago demo: a workflow with a fork on the Palmer penguins, over HTTP, in real worker processes"
	@$(BIN)/perago demo

test: $(VENV)/.installed-dev
	@echo "== format"
	@$(BIN)/ruff format --check --quiet .
	@echo "== lint"
	@$(BIN)/ruff check --quiet .
	@echo "== types"
	@$(COMPILE)
	@$(REWRITE) & $(BIN)/mypy; status=$$?; wait; exit $$status
	@echo "== import rules"
	@$(BIN)/lint-imports
	@echo "== tests"
	@$(BIN)/python -m pytest -q -n $(XDIST) --dist loadgroup

this-python: $(VENV)/.installed-dev
	@$(COMPILE)
	@$(BIN)/python -m pytest -q -n $(XDIST) --dist loadgroup -m "not live and not exhaustive and not any_python"

exhaustive: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest tests/simulation -m "exhaustive and not live" -q -n $(XDIST)

soak: $(VENV)/.installed-dev
	@$(BIN)/python -m benchmarks.soak

# Other plugins would change make test, so each pytest has its own environment.
other-plugins: .venv-pytest-oldest/.installed .venv-pytest-newest/.installed
	@for which in oldest newest; do echo "== other plugins, $$which pytest"; \
	  .venv-pytest-$$which/bin/python -m pytest tests/plugin/test_other_plugins.py -q -p no:randomly -p no:asyncio \
	  || exit 1; done

.venv-pytest-oldest/.installed: PYTEST = pytest==8.2.*
.venv-pytest-newest/.installed: PYTEST = pytest
.venv-pytest-%/.installed: pyproject.toml
	@$(PYTHON) -m venv .venv-pytest-$*
	@.venv-pytest-$*/bin/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	@.venv-pytest-$*/bin/python -m pip install --quiet --disable-pip-version-check -e '.[embedded,fuzz,test]' --group other-plugins '$(PYTEST)'
	@touch $@

sdks: .venv-sdk-oldest/.installed .venv-sdk-newest/.installed
	@for which in oldest newest; do \
	  echo "== official SDKs, $$which: $$(.venv-sdk-$$which/bin/python -m pip freeze | grep -E '^(conductor-python|lakefs)==' | xargs)"; \
	  .venv-sdk-$$which/bin/python -m pytest tests/conformance/sdk tests/clients/test_clients.py tests/clients/test_workflows.py -q -n $(XDIST) || exit 1; done

.venv-sdk-oldest/.installed: SDKS = 'conductor-python==2.0.0' 'lakefs==0.14.0'
.venv-sdk-newest/.installed: SDKS = 'conductor-python<3' lakefs
.venv-sdk-%/.installed: pyproject.toml
	@$(PYTHON) -m venv .venv-sdk-$*
	@.venv-sdk-$*/bin/python -m pip install --quiet --disable-pip-version-check -e '.[embedded,test]' $(SDKS)
	@touch $@

deploy-files: .venv-deploy/.installed
	@.venv-deploy/bin/python -m pytest tests/deploy -q -rs

# Pyright reads an installed package only, so its environment has perago as users install it.
complete-types: .venv-types/.installed
	@.venv-types/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall .
	@for package in perago pytest_perago; do \
	  PATH="$(CURDIR)/.venv-types/bin:$$PATH" pyright --verifytypes $$package --ignoreexternal > .venv-types/report.txt \
	  || { cat .venv-types/report.txt; exit 1; }; done

.venv-types/.installed: pyproject.toml
	@$(PYTHON) -m venv .venv-types
	@.venv-types/bin/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	@.venv-types/bin/python -m pip install --quiet --disable-pip-version-check '.[embedded,fuzz,tables,test]' --group complete-types
	@touch $@

wheels: $(VENV)/.installed-dev
	@$(BIN)/python .ci/wheels.py

.venv-deploy/.installed: pyproject.toml
	@$(PYTHON) -m venv .venv-deploy
	@.venv-deploy/bin/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	@.venv-deploy/bin/python -m pip install --quiet --disable-pip-version-check -e '.[embedded,fuzz,test]' --group deploy
	@touch $@

# The site has its own environment.
docs: .venv-docs/.installed
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet

.venv-docs/.installed: pyproject.toml
	@$(PYTHON) -m venv .venv-docs
	@.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	@.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check -e . --group docs
	@touch $@

screenshots: $(VENV)/.installed-dev
	@$(BIN)/python -m tests.docs.screenshots

wheel: $(VENV)/bin/python
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	@echo "pip install '$(CURDIR)/dist/$$(sed -n 's/^DISTRIBUTION = "\(.*\)"$$/\1/p' src/perago/__init__.py)-$$(sed -n 's/^__version__ = "\(.*\)"$$/\1/p' src/perago/__init__.py)-py3-none-any.whl[test,fuzz,embedded,tables]'"

format: $(VENV)/.installed-dev
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

# pip-audit has its own environment, so that its dependencies are not audited.
audit: $(VENV)/.installed-dev
	@test -x .venv-audit/bin/pip-audit || { $(PYTHON) -m venv .venv-audit && .venv-audit/bin/pip install --quiet pip-audit; }
	@$(BIN)/python -m pip freeze --exclude-editable > .venv-audit/installed.txt
	@.venv-audit/bin/pip-audit --strict --no-deps --disable-pip -r .venv-audit/installed.txt

live: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest tests/live -m live -q

live-ci: $(VENV)/.installed-dev
	@$(BIN)/python -m tests.live.conductor_server run -- \
	  sh -c 'run_tests="$(BIN)/python -m pytest tests/live -m live -q -k \"not chaos\""; eval $$run_tests -n $(LIVE_XDIST) --dist worksteal || { echo "== running the failed tests again: "; eval $$run_tests --lf; }'

# A round is repeated with the CHAOS_SEED and CHAOS_ROUND that it prints, and CHAOS_ROUNDS=1.
chaos: $(VENV)/.installed-dev
	@$(BIN)/python -m tests.live.conductor_server run -- $(BIN)/python -m pytest tests/live/test_live_chaos.py -m live -q

# The version before is the one that has landed last: the head of the remote, or the commit before this one.
BEFORE ?= $(shell git rev-parse -q --verify origin/main 2>/dev/null | grep -v "$$(git rev-parse HEAD)" || git rev-parse HEAD~1)
MIXED_ROUNDS ?= 6

mixed-versions: $(VENV)/.installed-dev
	@rm -rf build/before && mkdir -p build/before && git archive $(BEFORE) | tar -x -C build/before
	@$(PYTHON) -m venv .venv-before
	@.venv-before/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall 'build/before[embedded,tables]'
	@echo "== chaos with workers of this version and of $$(git log -1 --format='%h (%cs)' $(BEFORE))"
	@$(BIN)/python -m tests.live.conductor_server run -- env PERAGO_LIVE_BEFORE=$(CURDIR)/.venv-before/bin/python \
	  CHAOS_MINUTES=30 CHAOS_ROUNDS=$(MIXED_ROUNDS) $(BIN)/python -m pytest tests/live/test_live_chaos.py -m live -q

conformance: $(VENV)/.installed-dev
	@echo "== recordings of real servers, and the ports: embedded services"
	@$(BIN)/python -m pytest tests/conformance -q -n $(XDIST)
	@$(MAKE) --no-print-directory conformance-live

conformance-live: $(VENV)/.installed-dev
	@echo "== recordings of real servers, and the ports: a real Conductor, and the lakeFS that PERAGO_CONFORMANCE_LAKEFS names"
	@$(BIN)/python -m tests.live.conductor_server run -- \
	  sh -c 'export PERAGO_CONFORMANCE_CONDUCTOR="$$CONDUCTOR_SERVER_URL"; run_tests="$(BIN)/python -m pytest tests/conformance -m live -q --ignore tests/conformance/differential"; $$run_tests -n $(CONFORMANCE_XDIST) --dist worksteal || { echo "== running the failed tests again: "; $$run_tests --lf; }'
	@$(MAKE) --no-print-directory differential

differential: $(VENV)/.installed-dev
	@echo "== random conversations: a real Conductor, and the lakeFS that PERAGO_CONFORMANCE_LAKEFS names"
	@$(BIN)/python -m tests.live.conductor_server run -- \
	  sh -c 'PERAGO_CONFORMANCE_CONDUCTOR="$$CONDUCTOR_SERVER_URL" exec $(BIN)/python -m pytest tests/conformance/differential -m live -q'

conductor: $(VENV)/.installed-dev
	@$(BIN)/python -m tests.live.conductor_server run -- \
	  sh -c 'echo "PERAGO_CONFORMANCE_CONDUCTOR=$$CONDUCTOR_SERVER_URL"; while :; do sleep 3600; done'

# Data and keys are new at each start, in a directory that is removed at the end.
lakefs:
	@test -x "$(LAKEFS_BIN)" || { echo "make lakefs: LAKEFS_BIN must name the lakeFS 1.84 binary (github.com/treeverse/lakeFS, Releases): make lakefs LAKEFS_BIN=/path/to/lakefs" >&2; exit 2; }
	@data=$$(mktemp -d) && trap 'rm -rf "$$data"' EXIT && \
	  echo "PERAGO_CONFORMANCE_LAKEFS=http://AKIAPERAGO:secret@127.0.0.1:8000" && \
	  LAKEFS_DATABASE_TYPE=local LAKEFS_DATABASE_LOCAL_PATH=$$data/metadata LAKEFS_BLOCKSTORE_TYPE=local \
	  LAKEFS_BLOCKSTORE_LOCAL_PATH=$$data/objects LAKEFS_AUTH_ENCRYPT_SECRET_KEY=perago LAKEFS_STATS_ENABLED=false \
	  LAKEFS_LISTEN_ADDRESS=127.0.0.1:8000 LAKEFS_INSTALLATION_USER_NAME=admin \
	  LAKEFS_INSTALLATION_ACCESS_KEY_ID=AKIAPERAGO LAKEFS_INSTALLATION_SECRET_ACCESS_KEY=secret "$(LAKEFS_BIN)" run

clean:
	@rm -rf .venv .venv-*

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11, 1) else f"perago needs Python 3.11.1 or later, but $(PYTHON) is {v.major}.{v.minor}.{v.micro}; try: make PYTHON=python3.12 ...")'
	@echo "== making a virtual environment in $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	@test -e $(VENV)/.installed-dev && test $(VENV)/.installed-dev -nt pyproject.toml || \
	  { echo "== installing perago and its dependencies"; $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[embedded]'; }
	@touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python pyproject.toml
	@echo "== installing perago and its development tools"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1' # for dependency groups
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[embedded,fuzz,tables,test]' --group dev
	@touch $@
