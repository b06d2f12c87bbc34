# Each target makes .venv and installs into it all that the target needs.

PYTHON ?= python3
BIN := .venv/bin
BUILT_FROM := pyproject.toml setup.py \
    $(wildcard fastinit/*.pyx fastinit/*.pxd fastinit/src/* fastinit/include/*)

missing = { echo "fastinit: $(1)" >&2; exit 1; }

.PHONY: demo test test-all test-pythons deep deep-bits deep-faults deep-models bench tables docs \
    site wheels lint clean
.DELETE_ON_ERROR:

demo: .venv/with-cli
	$(BIN)/fastinit init gpt2 -o build/gpt2 --overwrite
	$(BIN)/python examples/demo.py build/gpt2/model.safetensors

PYTEST := $(BIN)/python -m pytest -n auto --dist loadgroup
test: .venv/with-test
	$(PYTEST) -m 'not exhaustive'

test-all: test
	$(PYTEST) -m exhaustive

# Every other CPython from 3.10 on that is installed here, the oldest with the oldest NumPy.
test-pythons: .venv/with-test .venv/with-lint
	$(BIN)/python tests/deep/pythons.py

# For hours; docs/validation.md shows what came out.  dieharder, where it is, runs a battery.
ORDERS := natural transposed:1 transposed:10 transposed:16 transposed:24 transposed:32 blocks \
    names seeds layers model dtypes natural/uniform-float64 natural/normal-float64
deep: .venv/with-test deep-bits deep-faults
	$(BIN)/python tests/deep/deep.py --threads $$(nproc)
	if command -v dieharder; then $(BIN)/python tests/deep/battery.py $(ORDERS); fi
	$(BIN)/python docs/make_validation.py

# For an hour or two; docs/models.md shows what came out.
deep-models: .venv/with-test .venv/with-hf
	$(BIN)/python tests/deep/models.py

deep-faults: .venv/with-test
	$(BIN)/python tests/deep/kills.py
	$(BIN)/python tests/deep/headers.py
	$(BIN)/python tests/deep/arrays.py
	$(BIN)/python tests/deep/recipes.py
	$(BIN)/python tests/deep/sanitizers.py

# A quarter of an hour; with the compilers and emulators that are there.
deep-bits: .venv/with-test wheels
	$(BIN)/python tests/deep/same_bits.py
	$(BIN)/python tests/deep/avx512.py

bench: .venv/with-test .venv/with-bench
	$(BIN)/python -m pytest bench --benchmark-autosave --benchmark-storage=file://build/bench

# Of a quiet machine, a quarter of an hour on 2 CPUs; the peers are those that .venv has.
tables: .venv/with-cli .venv/with-bench
	$(BIN)/python bench/tables.py measure

# What programs write into docs/: tables, the guides' output, pictures.
docs: .venv/with-docs
	$(BIN)/python docs/make_docstrings.py
	$(BIN)/python docs/make_stubs.py
	$(BIN)/python docs/make_initializers.py
	$(BIN)/python docs/make_errors.py
	$(BIN)/python docs/make_guide.py

# build/site/index.html. A page for each adapter whose library .venv has; warnings are errors.
site: .venv/with-site
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going docs build/site
	$(BIN)/python docs/check_links.py build/site

# dist/: the sdist, and a wheel for each CPython that is here on x86-64 and on aarch64.
wheels: .venv/with-wheels
	$(BIN)/python packaging/make_wheels.py

lint: .venv/with-cli .venv/with-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/stubtest fastinit._kernels --allowlist tests/stubtest.txt --mypy-config-file pyproject.toml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

clean:
	rm -rf .venv build dist *.egg-info fastinit/_kernels.c fastinit/*.so .*_cache

# What an extra needs; fastinit-nn itself is installed, and is not built again. Python compiles a
# module when it is first imported: to compile all that is installed takes half a minute.
.venv/with-%: .venv/built
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check 'fastinit-nn[$*]'
	@touch $@

# The install is editable: only what is compiled has to be installed again.
.venv/built: $(BUILT_FROM) | $(BIN)/python
	@compiler=$${CC:-$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_config_var("CC"))')}; \
	command -v $${compiler%% *} >/dev/null || \
	$(call missing,no C compiler ($$compiler): install one (Debian: apt install gcc) or set CC)
	@test -e "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" || \
	$(call missing,no Python.h: install Python's C headers (Debian: apt install python3-dev))
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --editable .
	@touch $@

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || \
	$(call missing,no $(PYTHON): install Python 3.10 or later or name one: make PYTHON=...)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	$(call missing,$$($(PYTHON) -V) is too old: 3.10 or later is needed: make PYTHON=...)
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	$(call missing,$(PYTHON) has no venv: install it (Debian: apt install python3-venv))
	$(PYTHON) -m venv .venv
