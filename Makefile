# SPDX-License-Identifier: Apache-2.0
# The only door. `make serve` and `make test` need git, make and root or sudo, and install the rest.
#
#   make serve [APP=app.wsgi] [HOST=127.0.0.1] [PORT=8000] [MODE=daemon|embedded] [USER_=www-data]
#   make test [T=tests/http]    every test, or those of one folder or file
#   make check                  c, unit, engine, house: some two minutes
#   make build lint format asan fuzz clients perf-counts free-threaded debug docs clean
SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:

APP ?=
HOST ?= 127.0.0.1
PORT ?= 8000
MODE ?= daemon
USER_ ?= www-data
T ?=
PYTHON ?= /usr/bin/python3

# As root everything that root runs lies where only root writes and all may enter (docs/privileges.md).
IS_ROOT := $(filter 0,$(shell id -u))
STATE ?= $(if $(IS_ROOT),/opt/mod_pyglue,$(CURDIR)/.make)
VENV ?= $(if $(IS_ROOT),$(STATE)/venv,$(CURDIR)/.venv)
BIN := $(VENV)/bin
PIP := PATH=$(BIN):$$PATH $(BIN)/python -m pip --disable-pip-version-check -q
PYTEST := $(BIN)/pytest
STAMP := $(VENV)/.mod_pyglue.installed
EXTRAS ?=
FREE_THREADED ?= $(STATE)/python3.13t/bin/python3.13t
TEST_ENV = PYGLUE_PREFIX=$(VENV) PYGLUE_FREE_THREADED=$(FREE_THREADED)

C_FILES = $(wildcard apache_module/*.[ch] pyglue/*/*.[ch] tests/*/*.[ch] tests/*/*/*.[ch])
BUILD_SETUP ?= -Dwerror=true
BUILD_INPUT = find pyglue apache_module httpd-conf meson.build meson.options pyproject.toml \
	-type f ! -name '*.pyc' ! -name '*.md'

.PHONY: help serve test check clients perf-counts free-threaded build lint format asan fuzz docs debug clean \
	setup-serve setup-test venv build-test build-lint

help:
	@sed -n '2,/^SHELL/{/^#/s/^# \{0,1\}//p}' Makefile

setup-serve:
	@.ci/setup serve

setup-test:
	@.ci/setup test

venv:
	@umask 022; test -x $(BIN)/meson || { \
	    mkdir -p $(STATE) && $(PYTHON) -m venv $(VENV) \
	    && $(PIP) install 'pip>=23.1' 'meson-python>=0.18' 'meson>=1.3' 'ninja>=1.10'; }

# Installed again only when a source, the Python or an option differs from what is installed. Engines that
# `pyglue install-engine` built of the sources before go with them.
build: venv
	@umask 022; \
	now=$$({ echo '$(BUILD_SETUP)'; $(BIN)/python -VV; $(BUILD_INPUT) | LC_ALL=C sort \
	    | xargs sha256sum; } | sha256sum); \
	test "$$now" = "$$(cat $(STAMP) 2>/dev/null)" && test -z '$(EXTRAS)' -o -e '$(STAMP)$(EXTRAS)' || { \
	    echo 'building mod_pyglue into $(VENV)' >&2; \
	    rm -rf $(VENV)/lib/python*/site-packages/pyglue/engines; \
	    $(PIP) install --no-build-isolation -Cbuild-dir=$(STATE)/build \
	        $(addprefix -Csetup-args=,$(BUILD_SETUP)) '.$(EXTRAS)' \
	    && echo "$$now" >$(STAMP) && touch '$(STAMP)$(EXTRAS)'; }

build-test: EXTRAS := [test]
build-test: build

build-lint: EXTRAS := [lint]
build-lint: build

serve: setup-serve build
	@app='$(APP)'; test -n "$$app" \
	    || app=$$($(BIN)/python -I -c 'import pyglue; print(pyglue.__path__[0])')/httpd-conf/hello.wsgi; \
	exec $(BIN)/pyglue serve "$$app" \
	    --host $(HOST) --port $(PORT) --mode $(MODE) $(if $(IS_ROOT),--user $(USER_))

test: setup-test build-test
	$(TEST_ENV) $(PYTEST) $(T)

check: setup-test build-test
	$(TEST_ENV) $(PYTEST) $(wildcard tests/c tests/unit tests/engine tests/house)

clients: setup-test build-test
	PYGLUE_PREFIX=$(VENV) $(PYTEST) -m clients tests

perf-counts: setup-test build-test
	PYGLUE_PREFIX=$(VENV) $(BIN)/python tests/perf/perf_counts.py

# The first time it builds a free-threaded Python, which takes minutes; `make test` uses what is there. All that is said
# of the engine holds without a GIL as well.
free-threaded: setup-test build-test
	@.ci/setup free-threaded && .ci/free-threaded $(abspath $(dir $(FREE_THREADED))..)
	$(TEST_ENV) PYGLUE_ENGINE_PYTHON=$(FREE_THREADED) $(PYTEST) tests/engine
	$(TEST_ENV) $(PYTEST) tests/http/test_free_threading.py

lint: setup-test build-lint
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy -p pyglue
	$(BIN)/clang-format --dry-run --Werror $(C_FILES)

format: setup-test build-lint
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format . ; $(BIN)/clang-format -i $(C_FILES)

# A second environment: what is installed with sanitizers serves nobody else. The host programs are not built with them,
# so their library comes first; CPython keeps memory on purpose, so leaks are not looked for. Supervisor and workers get
# nothing of httpd's environment, so the environment's own Python brings the library with it (its links come back before
# it builds).
SANITIZED = LD_PRELOAD="$(foreach name,libasan libubsan,$(shell gcc -print-file-name=$(name).so))" \
	ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
asan:
	@test ! -d $(STATE)/asan || { rm -f $(STATE)/asan/bin/python*; $(PYTHON) -m venv --without-pip $(STATE)/asan; }
	@$(MAKE) VENV=$(STATE)/asan STATE=$(STATE)/asan-build EXTRAS='[test]' \
	    BUILD_SETUP='-Dwerror=true -Db_sanitize=address,undefined -Db_lundef=false' setup-test build
	@real=$$(readlink -f $(STATE)/asan/bin/python); for link in $(STATE)/asan/bin/python*; do rm -f $$link; \
	    printf '#!/bin/bash\nexport %s\nexec -a "$$0" %s "$$@"\n' '$(SANITIZED)' "$$real" >$$link; chmod 755 $$link; done
	PYGLUE_PREFIX=$(STATE)/asan $(SANITIZED) $(STATE)/asan/bin/pytest $(or $(T),tests/c tests/engine)

# SECONDS bounds the run. What is found stays in the build folder; a crash leaves a file to keep.
fuzz: setup-test
	@target=$(or $(T),frame); out=$(STATE)/fuzz; mkdir -p $$out/found-$$target; \
	clang -std=gnu11 -D_GNU_SOURCE -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
	    -Ipyglue/bridge tests/fuzz/$$target.c pyglue/bridge/*.c -o $$out/$$target \
	&& $$out/$$target -dict=tests/fuzz/wire.dict -max_len=8192 $(if $(SECONDS),-max_total_time=$(SECONDS)) \
	    $$out/found-$$target tests/fuzz/corpus/$$target

# The documentation is Markdown; what is built of it is the proof that links and references hold.
docs: setup-test build-test
	PYGLUE_PREFIX=$(VENV) $(PYTEST) tests/house

debug: setup-test build
	@conf=$$($(BIN)/pyglue config "$(or $(APP),httpd-conf/hello.wsgi)" --host $(HOST) --port $(PORT) --mode $(MODE)); \
	httpd=$$(command -v apache2 || command -v httpd || echo /usr/sbin/apache2); \
	exec gdb -x .gdbinit --args "$$httpd" -X -f "$$conf"

clean:
	rm -rf $(VENV) $(STATE)/build $(STATE)/example
