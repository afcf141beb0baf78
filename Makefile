# make demo        from samples/ to a trained, tested classifier (makes .venv with the training set)
# make demo VIDEO=my.mp4  look for fights and falls in a video or a folder of videos
# make setup       only make .venv with the runtime set: what video, stages and inference need
# make setup-train the runtime and the training set (torch, mmengine, mmaction2)
# make test        run the tests (makes .venv with the dev set first)
# make test-slow   also those that take minutes
# make lint        ruff and mypy
# make benchmark   every benchmark in benchmarks/, one after another, with its peers (hours);
#                  ARGS=--quick small, in minutes; ARGS="tracking rtmo_speed" these
# make setup-benchmark  the dev set and the peers that benchmarks compare with
# make docs        build the documentation as a site into site/ (makes .venv with the docs set alone)
# make docs-check  run the commands of the pages that need nothing but the repository (minutes)
# make notebooks   run notebooks/ and write them with their outputs (minutes); ARGS=explain_alarm one
# make pictures    draw the pictures of docs/ from the samples; of the live page where Chromium is
# make test-image  build and use the container; needs Compose 2, and an engine or root
# make check-gpu   on a GPU server, after make setup-train RUNTIME=tensorrt (or gpu): whatever runs
#                  on a GPU is run and timed; one table for a report. ARGS="--video FILE ...",
#                  ARGS=--dry-run on a CPU
# make check-gpu-libs  fetch the pinned wheels (gigabytes) and prove that no library is missing
# make clean-venv  remove .venv
#
# PYTHON=python3.11    the interpreter that .venv is made with
# RUNTIME=gpu          install onnxruntime-gpu and CUDA 13's libraries in place of onnxruntime
# RUNTIME=tensorrt     the same and TensorRT 10, from NVIDIA's package index
# RUNTIME=openvino     install onnxruntime-openvino in place of onnxruntime
PYTHON ?= $(shell command -v python3.11 || echo python3)
RUNTIME ?= cpu

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check --quiet
# One thread per process: spinning thread pools slow each other down on few cores.
QUIET_CORES := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
# Tests run in one process per core; each takes 1 GB.
PARALLEL := -n auto --maxprocesses 4 --dist worksteal

# A stamp is newer than the lists it was installed from, so that a second call does nothing.
INTERPRETER := $(VENV)/.made
RUNTIME_SET := $(VENV)/.runtime-$(RUNTIME)
TRAIN_SET := $(VENV)/.training
DEV_SET := $(VENV)/.dev
PEERS := $(VENV)/.benchmark
DOCS_SET := $(VENV)/.docs
RUNTIME_LISTS := requirements/base.txt requirements/$(RUNTIME).txt \
	$(if $(filter tensorrt,$(RUNTIME)),requirements/gpu.txt)
TRAIN_LISTS := requirements/training.txt requirements/openmmlab.txt
DEV_LISTS := $(TRAIN_LISTS) requirements/live.txt requirements/ray.txt requirements/objectstore.txt \
    requirements/dev.txt

.PHONY: demo video-exists setup setup-train setup-dev setup-benchmark test test-slow lint format benchmark \
	docs docs-check notebooks pictures test-image check-gpu check-gpu-libs clean-venv
.DEFAULT_GOAL := demo

ifneq ($(origin VIDEO),undefined)
# By the environment: a name may hold quotes, blanks and dollars.
export VIDEO_FILE := $(value VIDEO)
demo: video-exists $(RUNTIME_SET)
	$(PY) main.py --mode inference.analysis --set "inference.input=$$VIDEO_FILE"

video-exists:  # before anything is installed
	@test -e "$$VIDEO_FILE" || { \
		printf 'VIDEO: expected a video or a folder of videos, found none at %s\n' "$$VIDEO_FILE"; \
		exit 1; }
else
demo: $(TRAIN_SET)
	$(PY) main.py --mode demo
endif

setup: $(RUNTIME_SET)

setup-train: $(TRAIN_SET)

setup-dev: $(DEV_SET)

setup-benchmark: $(PEERS)

test: $(DEV_SET)
	$(QUIET_CORES) $(PY) -m pytest $(PARALLEL) $(ARGS)

test-slow: $(DEV_SET)
	$(QUIET_CORES) $(PY) -m pytest $(PARALLEL) -m "slow or not slow" $(ARGS)

lint: $(DEV_SET)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(DEV_SET)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

benchmark: $(PEERS)
	$(QUIET_CORES) $(PY) -m benchmarks $(ARGS)

docs: $(DOCS_SET)
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet
	@echo "open site/index.html; with the search: python3 -m http.server --bind 127.0.0.1 --directory site"

docs-check: $(DEV_SET)
	$(QUIET_CORES) $(PY) -m pytest -m "slow or not slow" tests/test_docs.py \
		tests/test_docs_commands.py tests/test_notebooks.py

notebooks: $(DEV_SET)
	$(QUIET_CORES) $(PY) -m tools.notebooks $(ARGS)

pictures: $(DEV_SET)
	$(QUIET_CORES) $(PY) -m tools.docs_pictures $(ARGS)

# TARGET=training, live, ray, gpu, tensorrt, train or all: other images; deploy/image_test.sh tells more.
test-image:
	deploy/image_test.sh $(TARGET)

# No prerequisite: a RUNTIME that is not given would take onnxruntime-gpu away.
check-gpu:
	@$(PY) -c 'import onnxruntime' 2>/dev/null || { \
		echo "first: make setup-train RUNTIME=tensorrt (or RUNTIME=gpu)"; exit 1; }
	$(PY) -m benchmarks.gpu.check $(ARGS)

# ARGS="--image gpu": that one alone (gpu, tensorrt, train).
check-gpu-libs: $(DEV_SET)
	$(PY) -m deploy.gpu_libs $(ARGS)

clean-venv:
	rm -rf $(VENV)

$(INTERPRETER):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
		echo "$(PYTHON) is not Python 3.11, which this project needs."; \
		echo "Install it (Debian: apt-get install python3.11 python3.11-venv) or name one:"; \
		echo "  make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@touch $@

# onnxruntime, onnxruntime-gpu and onnxruntime-openvino are one module: those of the sets that were
# not asked for go first. (The set tensorrt is gpu and more.)
$(RUNTIME_SET): $(RUNTIME_LISTS) | $(INTERPRETER)
	@echo "installing the $(RUNTIME) runtime set into $(VENV)"
	@for other in $(filter-out $(RUNTIME:tensorrt=gpu),cpu gpu openvino); do \
		if [ -e $(VENV)/.runtime-$$other ] || { [ $$other = gpu ] && [ -e $(VENV)/.runtime-tensorrt ]; }; then \
			$(PY) -m pip uninstall --yes --quiet $$(grep -o '^onnxruntime[a-z-]*' requirements/$$other.txt); \
		fi; done
	@rm -f $(VENV)/.runtime-*
	$(PIP) -r requirements/$(RUNTIME).txt
	@$(PY) -c 'import cv2' || { \
		echo "OpenCV needs two libraries of the system: apt-get install libgl1 libglib2.0-0"; exit 1; }
	@touch $@

$(TRAIN_SET): $(TRAIN_LISTS) $(RUNTIME_SET) | $(INTERPRETER)
	@echo "installing the training set into $(VENV) (torch is the largest part; minutes)"
	$(PIP) -r requirements/training.txt
	$(PIP) --no-deps -r requirements/openmmlab.txt
	@touch $@

$(DEV_SET): $(DEV_LISTS) $(RUNTIME_SET) | $(INTERPRETER)
	@echo "installing the dev set into $(VENV) (torch is the largest part; minutes)"
	$(PIP) -r requirements/dev.txt
	$(PIP) --no-deps -r requirements/openmmlab.txt
	@touch $(TRAIN_SET) $@

$(PEERS): requirements/benchmark.txt $(DEV_SET) | $(INTERPRETER)
	@echo "installing the benchmarks' peers into $(VENV)"
	$(PIP) --no-deps -r requirements/benchmark.txt
	@touch $@

$(DOCS_SET): requirements/docs.txt | $(INTERPRETER)
	@echo "installing the docs set into $(VENV)"
	$(PIP) --no-deps -r requirements/docs.txt
	@touch $@
