# For a fresh machine with Python 3.11 or newer: `make demo`, `make test`, and `make demo-train`.

PYTHON ?= python3
VENV := .venv
DEMO_VENV := .venv-demo
BIN := $(VENV)/bin
EXTRAS := cpu,rtx,openvino,export,train,bench,gallery,cluster,serve,ray,docs,dev
LIGHT_VENV = .venv-light-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
LIGHT_TESTS := batching decoding devices drawing errors files forks images inputs interrupts machine model_spec pictures \
	prediction preprocess text

CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
ABOUT := A FashionNet on EfficientNet-Lite0, taught by 4,000 photos of garments that lie, hang or are worn.
ABOUT_INT8 := fashionnet-lite in 8 bits, for CPUs.
WITH_WORN = $(if $(CCP),--worn build/worn-photos)
WITH_PHOTOS = $(if $(PHOTOS),--photos "$(PHOTOS)")

.PHONY: setup test test-light check docs demo demo-train pretrained clean

setup: $(VENV)/installed ## .venv with all that a machine without a GPU can use

$(VENV)/installed: pyproject.toml constraints.txt
	$(CHECK_PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e ".[$(EXTRAS)]"
	touch $@

check: setup ## ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check ## check, then the tests, a process of one thread for each core
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile

test-light: ## the runtime's tests without torch, on another Python: make test-light PYTHON=python3.13
	$(CHECK_PYTHON)
	$(PYTHON) -m venv $(LIGHT_VENV)
	$(LIGHT_VENV)/bin/pip install --disable-pip-version-check -q -c constraints.txt -e ".[demo]" hypothesis psutil pytest
	$(LIGHT_VENV)/bin/python -m pytest $(LIGHT_TESTS:%=tests/test_%.py)
	$(LIGHT_VENV)/bin/fashion-infer predict fashionnet-lite docs/results.jpg

docs: setup ## the documentation site, build/site/index.html; a broken link fails
	$(BIN)/python docs/commands.py docs/reference/commands.md
	$(BIN)/python -m zensical build --strict

demo: $(DEMO_VENV)/installed ## the built-in model on pictures, timed: demo/report.html; PHOTOS=DIR adds your own
	$(DEMO_VENV)/bin/fashion-infer demo -o demo $(WITH_PHOTOS)

$(DEMO_VENV)/installed: pyproject.toml constraints.txt
	$(CHECK_PYTHON)
	$(PYTHON) -m venv $(DEMO_VENV)
	$(DEMO_VENV)/bin/pip install --disable-pip-version-check -q -c constraints.txt -e ".[demo]"
	touch $@

demo-train: setup ## the whole chain in minutes: render, train, export, verify, predict, time; PHOTOS=DIR as above
	$(BIN)/fashion-infer demo --train -o demo $(WITH_PHOTOS)

pretrained: setup ## train, export and judge fashionnet-lite: hours; DATA=DIR holds the public clothing photos, CCP=DIR the street photos
	$(BIN)/python benchmarks/real_photos.py "$(DATA)" build/real-photos
	$(if $(CCP),$(BIN)/python benchmarks/worn_photos.py "$(CCP)" build/worn-photos)
	$(BIN)/python benchmarks/pretrained.py build/real-photos build/pretrained $(WITH_WORN)
	$(BIN)/python -m fashion_infer.export.built_in fashionnet-lite build/pretrained/fashionnet-lite.safetensors \
		--photos build/real-photos/Img/img/validation --about "$(ABOUT)"
	$(BIN)/fashion-infer export build/pretrained/fashionnet-lite.safetensors --precision int8 \
		--calibration build/real-photos/Img/img/train --data build/real-photos -o build/pretrained/fashionnet-lite-int8.onnx
	$(BIN)/python -m fashion_infer.export.built_in fashionnet-lite-int8 build/pretrained/fashionnet-lite-int8.onnx \
		--about "$(ABOUT_INT8)"
	$(BIN)/python benchmarks/judge_pretrained.py build/real-photos fashionnet-lite $(WITH_WORN)
	$(BIN)/python benchmarks/judge_pretrained.py build/real-photos fashionnet-lite-int8 $(WITH_WORN)
	$(BIN)/python benchmarks/frozen_trunk.py build/real-photos lying
	$(if $(CCP),$(BIN)/python benchmarks/frozen_trunk.py build/worn-photos worn --trunk build/pretrained/photos-224/model.safetensors)

clean:
	rm -rf $(VENV) $(DEMO_VENV) .venv-light-* demo build *.egg-info
