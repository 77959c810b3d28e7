# make run                                     the demo: a small drawn data set, ResNet-18
# make run DATA=.../MVTec SAVE=result BACKBONE=eff_net ARGS="--seed 1"
# make test | lint | format | clean
# make docs | api                             the page of options; API pages in build/api
# make screenshots WEIGHTS=FILE                every page into docs/, from a run of the demo set
# make soak ARGS="--kills 50 --trees 500"      the long tests: runs killed, hostile data sets

PYTHON ?= python3
VENV ?= .venv
BACKBONE ?= resnet
SAVE ?= result
DATA ?=
ARGS ?=
WEIGHTS ?= imagenet

API := $(addprefix padim.,model config backbones errors preprocessing embedding reduction gaussian \
  anomaly_map calibration reference)
BIN := $(VENV)/bin

.PHONY: run test soak docs api lint format screenshots clean

run: $(VENV)/installed
	@test -f "main_$(BACKBONE).py" || \
	  { echo "BACKBONE=$(BACKBONE) is none of resnet, wide_resnet, eff_net, timm" >&2; exit 2; }
	$(BIN)/python main_$(BACKBONE).py $(if $(DATA),--data_path "$(DATA)") --save_path "$(SAVE)" $(ARGS)

# One thread a process: two processes share the cores, and threads that wait for each other take time.
test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal $(ARGS)

soak: $(VENV)/installed-dev
	$(BIN)/python tests/soak/soak.py $(ARGS)

docs: $(VENV)/installed
	$(BIN)/python docs/options.py

api: $(VENV)/installed-dev
	$(BIN)/python -m pdoc --docformat google --output-directory build/api $(API)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@if git rev-parse --git-dir >/dev/null 2>&1; then $(BIN)/md-dead-link-check; \
	  else echo "links of the documentation: not checked, this is no git checkout" >&2; fi

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

screenshots: $(VENV)/installed-dev
	$(BIN)/python docs/screenshots.py --weights "$(WEIGHTS)" $(ARGS)

clean:
	rm -rf "$(VENV)" .pytest_cache .ruff_cache .mypy_cache build

$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv "$(VENV)"
	touch $@

$(VENV)/installed: requirements.txt $(VENV)/created
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@
