# make demo | test | compare | results | lint | fuzz | chaos | clean. Each sets up what it needs in .venv; PYTHON chooses the
# interpreter, PADDLE the build (cpu or gpu).
# make wheel-test: builds sdist and wheel, and uses the wheel in a fresh virtual environment, far from the checkout.
# make notebooks: runs them (NOTEBOOKS: some) and writes what they show into them; CIFAR is taken from PPADAPT_DATA.
# make notebooks-check: the same cells with small settings, nothing is written.
# make test-paddle | demo-paddle: the same with another Paddle in a venv of its own, e.g. PADDLE_VERSION=2.6.2;
# TESTS chooses folders and options of pytest. What passes: docs/paddle_versions.md.
PYTHON ?= python3
PADDLE ?= cpu
PADDLE_VERSION ?= 2.6.2
TESTS ?=
NOTEBOOKS ?=
# make fuzz: feeds every reader of files for SECONDS, in .venv-fuzz (no Paddle); docs/security.md. FUZZ: options of
# tests/fuzz/fuzz.py, such as --seed 1 --runs 2000 for the same inputs every time.
SECONDS ?= 60
FUZZ ?=
# make chaos: kills a training run at every change that it makes to a file; POINTS takes a sample. docs/reliability.md.
# make kills: KILLS of runs at random moments. make long-run: whether memory or anything else grows in 2,000 steps.
POINTS ?=
KILLS ?= 200
# make results: remakes the numbers, tables and pictures of README and docs/, or one PART of them; results-left says what
# that takes, results-check whether documents and records agree. CIFAR10 is the archive, MOSAICS the folder of `ppadapt
# mosaics`, TORCH an interpreter with PyTorch for its side of the part parity. docs/results.md.
PART ?=
CIFAR10 ?= dataset
MOSAICS ?= dataset/mosaic
TORCH ?=
RESULTS = $(BIN)/python tools/results.py $(addprefix --part ,$(PART))
HERE = --cifar10 $(CIFAR10) --mosaics $(MOSAICS) $(addprefix --torch-python ,$(TORCH))
BIN := .venv/bin
READY := .venv/ready-$(PADDLE)
OLD := .venv-paddle-$(PADDLE_VERSION)

.PHONY: demo notebooks notebooks-check test compare lint wheel-test clean test-paddle demo-paddle fuzz chaos kills \
    long-run results results-left results-check

demo: $(READY)
	$(BIN)/python tools/demo.py

notebooks: $(READY)
	$(BIN)/python tools/notebooks.py $(NOTEBOOKS)

notebooks-check: $(READY)
	$(BIN)/python tools/notebooks.py --check $(NOTEBOOKS)

test: lint
	$(BIN)/python -m pytest $(TESTS)

compare: $(READY)
	$(BIN)/python tools/compare.py -c configs/digits/vit_micro_adaptformer.yaml --methods linear,vpt,adaptformer,full

results: $(READY)
	$(RESULTS) $(HERE)

results-left: $(READY)
	$(RESULTS) $(HERE) --left

results-check: $(READY)
	$(RESULTS) --check

lint: $(READY)
	$(BIN)/ruff check .

wheel-test: $(READY)
	$(BIN)/python tests/package/try_wheel.py

test-paddle: $(OLD)/ready
	$(OLD)/bin/python -m pytest $(TESTS)

demo-paddle: $(OLD)/ready
	$(OLD)/bin/python tools/demo.py --folder output/demo-paddle-$(PADDLE_VERSION)

fuzz: .venv-fuzz/ready
	.venv-fuzz/bin/python tests/fuzz/fuzz.py --seconds $(SECONDS) $(FUZZ)

chaos: $(READY) .venv-chaos/ready
	$(BIN)/python tests/chaos/chaos.py --ckpt-chaos .venv-chaos/bin/ckpt-chaos $(if $(POINTS),--points $(POINTS))

kills: $(READY)
	$(BIN)/python tests/chaos/kills.py --kills $(KILLS)

long-run: $(READY)
	$(BIN)/python tests/chaos/long_run.py
	$(BIN)/python tests/chaos/long_run.py --workers 2

$(READY): setup.py
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[$(PADDLE),zoo,test]"
	touch $@

# Paddle imports setuptools, which Python 3.12 no longer brings and Paddle before 3.3 does not ask for.
.venv-paddle-%/ready: setup.py
	$(PYTHON) -m venv .venv-paddle-$*
	.venv-paddle-$*/bin/python -m pip install --quiet --upgrade pip setuptools
	.venv-paddle-$*/bin/python -m pip install --quiet --editable ".[zoo,test]" "paddlepaddle==$*"
	touch $@

# atheris has wheels for Linux only; hypothesis takes its place elsewhere.
.venv-fuzz/ready:
	$(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/python -m pip install --quiet --upgrade pip
	.venv-fuzz/bin/python -m pip install --quiet numpy pillow pyyaml tqdm safetensors hypothesis
	.venv-fuzz/bin/python -m pip install --quiet atheris || echo "atheris cannot be installed: hypothesis is used"
	touch $@

.venv-chaos/ready:
	$(PYTHON) -m venv .venv-chaos
	.venv-chaos/bin/python -m pip install --quiet ckpt-chaos==0.1.8
	touch $@

clean:
	rm -rf .venv .venv-paddle-* .venv-fuzz .venv-chaos fuzz-findings build *.egg-info
