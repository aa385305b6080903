# Everything a developer does, one target each; `make` prints the list. Nothing here needs the
# pre-commit runner. PYTHON chooses the interpreter; it needs the extra `dev` (pip install -e '.[dev]').

PYTHON ?= python3
SEED ?= 1
ROUNDS ?= 1
PERF_SECONDS ?= 5
FUZZ_SECONDS ?= 60
BIN := $(shell $(PYTHON) -c "import sysconfig; print(sysconfig.get_path(\"scripts\"))")
C_FILES = $(shell git ls-files --cached --others --exclude-standard 'csrc/*.[ch]' 'perf/*.[ch]')
PYX_FILES = $(shell git ls-files --cached --others --exclude-standard '*.pyx' '*.pxd')

STUBBED = $(patsubst fastmq/_native/%.pyi,fastmq._native.%,$(wildcard fastmq/_native/*.pyi)) \
	fastmq._native.syscalls

.DEFAULT_GOAL := help
.PHONY: help build debug lint format type stubs test test-c cross-macos test-native fuzz rel-fuzz interop reliability sim sim-many \
	rel-cluster rel-faults rel-disks rel-store rel-rot rel-long bench compare bench-compare docs docs-check dist check ci clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## compile the native modules into the source tree
	$(PYTHON) setup.py -q build_ext --inplace

debug: ## compile them with assertions and sanitizers, and say how to run Python on them
	FASTMQ_DEBUG=1 $(PYTHON) setup.py -q build_ext --inplace --force
	@echo "run: LD_PRELOAD=$$($${CC:-cc} -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 $(PYTHON) ..."

lint: ## ruff, cython-lint, clang-format, codespell, csrc with warnings as errors
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(if $(PYX_FILES),PATH="$(BIN):$$PATH" cython-lint $(PYX_FILES))
	@$(BIN)/clang-format --dry-run --Werror $(C_FILES)
	@$(BIN)/codespell $(shell git ls-files '*.md' '*.py' '*.h')
	@$(MAKE) -s -C csrc lint

format: ## rewrite Python and C in the house style
	@$(PYTHON) -m ruff check --fix .
	@$(PYTHON) -m ruff format .
	@$(BIN)/clang-format -i $(C_FILES)

type: ## mypy, strict
	$(PYTHON) -m mypy

stubs: build ## the stubs of the native modules against the modules
	$(PYTHON) -m mypy.stubtest --concise --ignore-missing-stub --ignore-unused-allowlist \
		--allowlist tests/stubtest.allow $(STUBBED)

test: build ## the quick suite (minutes)
	$(PYTHON) -m pytest

test-c: ## unit tests of csrc under sanitizers
	$(MAKE) -C csrc test

cross-macos: ## compile all of csrc for macOS with zig's headers (extra `cross`); nothing runs
	$(MAKE) -C csrc cross-macos ZIG="$(PYTHON) -m ziglang"

test-native: build ## property tests of the native modules
	$(PYTHON) -m pytest tests/native

fuzz: ## replay the corpus of every fuzz target, then mutate it for a while
	$(MAKE) -C csrc fuzz

rel-fuzz: build ## every C fuzz target for FUZZ_SECONDS, then 20 million requests over sockets
	$(MAKE) -C csrc rel-fuzz FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_SEED=$(SEED)
	FUZZ_COUNT=20000000 FUZZ_SEED=$(SEED) $(PYTHON) -m pytest -s -n 0 -o timeout=7200 \
		"tests/reliability/test_grammar_fuzz.py::test_faulty_requests_are_answered_or_refused[quick]"

interop: build ## clients that others wrote, full size
	$(PYTHON) -m pytest tests/interop -m "slow or not slow" -s -n 0

sim: ## simulate one cluster: make sim SEED=7
	$(PYTHON) -m fastmq.testing.sim --seed $(SEED)

sim-many: ## simulate many clusters, half of them new ones: make sim-many N=10000
	$(PYTHON) -m fastmq.testing.sim --count $(or $(N),1000) --fresh $$(($(or $(N),1000) / 2))

rel-cluster: build ## kill brokers of a cluster under load, 25 times
	$(PYTHON) -m pytest tests/reliability/test_cluster_kill.py -m "slow or not slow" -s -n 0

rel-faults: build ## a cluster's brokers killed, paused, cut off, restarted: ROUNDS rounds from SEED on
	$(PYTHON) tests/reliability/long_run.py faults --rounds $(ROUNDS) --seed $(SEED)

rel-disks: build ## power loss of all brokers, the last replica, hanging disks; the same way
	$(PYTHON) tests/reliability/long_run.py disks --rounds $(ROUNDS) --seed $(SEED)

rel-store: build ## etcd in trouble and gone for 60 s, clocks that jump; the same way
	$(PYTHON) tests/reliability/long_run.py store --rounds $(ROUNDS) --seed $(SEED)

rel-rot: build ## flip bits in the files of a log, 1,000 times, and in replicas of a cluster
	FASTMQ_FLIPS=1000 FASTMQ_SEED=$(SEED) $(PYTHON) -m pytest tests/engine/test_bit_rot.py -s -n 0 -o timeout=1200
	ROT_FLIPS=1000 ROT_SEED=$(SEED) $(PYTHON) -m pytest tests/reliability/test_cluster_rot.py -m slow -s -n 0 -o timeout=3600

reliability: build ## kills, power cuts, full disks; the figures of .ci/run
	$(PYTHON) -m pytest tests/reliability -m "slow or not slow" -s -n 0

bench: build ## every perf script, briefly; JSON lines (PERF_SECONDS per measurement)
	$(MAKE) -C perf all
	$(PYTHON) perf/all.py --seconds $(PERF_SECONDS)

compare: build ## the same work against Kafka, NATS, Redis, RabbitMQ; COMPARE="--quick" passes options
	$(PYTHON) perf/compare $(COMPARE)

bench-compare: build ## hot functions against stored baselines: instructions, pyperf; fails beyond a tolerance
	$(PYTHON) perf/guard --micro

docs: build ## write the generated documents
	$(PYTHON) -m fastmq.config > docs/CONFIG.md
	$(PYTHON) -m fastmq.cli.reference > docs/CLI.md
	$(PYTHON) -m fastmq.client.options_doc > docs/OPTIONS.md

docs-check: build ## fail when a generated document is stale
	$(PYTHON) -m fastmq.config | diff - docs/CONFIG.md
	$(PYTHON) -m fastmq.cli.reference | diff - docs/CLI.md
	$(PYTHON) -m fastmq.client.options_doc | diff - docs/OPTIONS.md

dist: ## sdist and wheel into dist/
	$(PYTHON) -m build

check: lint type build stubs docs-check test-c fuzz test ## what a change must pass before it lands

ci: ## what the build machine runs, in a clean copy of the commit
	.ci/run

clean: ## remove what was built
	rm -rf build dist csrc/build perf/build *.egg-info
	rm -f fastmq/_native/*.so fastmq/_native/*.c
	find . -name __pycache__ -prune -exec rm -rf {} +
