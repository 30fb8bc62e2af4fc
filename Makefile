# make demo | test | compare | lint | clean. Each sets up what it needs in .venv; PYTHON chooses the interpreter,
# PADDLE the build (cpu or gpu).
PYTHON ?= python3
PADDLE ?= cpu
BIN := .venv/bin
READY := .venv/ready-$(PADDLE)

.PHONY: demo test compare lint clean

demo: $(READY)
	$(BIN)/python tools/demo.py

test: lint
	$(BIN)/python -m pytest

compare: $(READY)
	$(BIN)/python tools/compare.py -c configs/digits/vit_micro_adaptformer.yaml --methods linear,vpt,adaptformer,full

lint: $(READY)
	$(BIN)/ruff check .

$(READY): setup.py
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[$(PADDLE),test]"
	touch $@

clean:
	rm -rf .venv build *.egg-info
