# `make help` lists the commands and their options.
VENV ?= .venv
PYTHON ?=
LAB_ARGS ?=
GPU_ARGS ?=
TEST_ARGS ?=
JOBS ?= 3
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
ROOT_USER := $(if $(filter 0,$(shell id -u)),--allow-root)

# Any Python can run the helper, which finds one that is new enough; quick when the environment is ready.
define prepare
@for python in python3 python "$(PYTHON)" python3.13 python3.12 python3.11; do \
  if "$$python" -c '' >/dev/null 2>&1; then \
    exec "$$python" .ci/environment.py --venv "$(VENV)" --python "$(PYTHON)" --extra "$(1)" $(if $(NEED_GB),--need-gb "$(NEED_GB)"); \
  fi; \
done; \
echo 'kdtutor: Python 3.11 or newer is needed, and none was found: install it, or name it: make lab PYTHON=/path/to/python3.11' >&2; \
exit 1
endef

.DEFAULT_GOAL := help
.PHONY: lab check quick test gpu doctor clean help

# On PATH too, so that a terminal in JupyterLab finds `kdtutor`.
lab:
	$(call prepare,)
	@PATH="$$(cd "$(BIN)" && pwd):$$PATH"; export PATH; \
	exec "$(BIN)/python" -m jupyterlab --ip=127.0.0.1 --ServerApp.root_dir=. \
	  --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb $(ROOT_USER) $(LAB_ARGS)

# What no test has to run for: style, form, types, and the direction of imports.
check:
	$(call prepare,test)
	@"$(BIN)/python" -m ruff check .
	@"$(BIN)/python" -m ruff format --check .
	@"$(BIN)/python" -m mypy
	@"$(BIN)/lint-imports" --no-cache

# For work in between: all but the slow tests and what tests/conftest.py marks as thorough.
quick:
	$(call prepare,test)
	@exec env OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest -n 2 --dist loadfile -m "not slow and not thorough" $(TEST_ARGS)

# A file of tests at a time, since files share their servers and browsers; the long files first (tests/conftest.py).
# More processes than two cores, because browsers and kernels wait for one another; JOBS=2 needs less memory.
test:
	$(call prepare,test)
	@exec env OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(TEST_ARGS)

# On a bare machine with a GPU nothing can be installed: the Python at hand will do, if it has torch.
gpu:
	@python="$(BIN)/python"; test -x "$$python" || python="$(if $(PYTHON),$(PYTHON),python3)"; \
	"$$python" benchmarks/gpu.py $(GPU_ARGS) && "$$python" benchmarks/gpu_page.py

doctor:
	$(call prepare,)
	@exec "$(BIN)/python" -m kdtutor.cli doctor

clean:
	@if [ -e "$(VENV)/pyvenv.cfg" ]; then rm -rf "$(VENV)"; fi
	@rm -rf build dist kdtutor.egg-info .pytest_cache .hypothesis .import_linter_cache .ruff_cache .mypy_cache

help:
	@echo 'make lab     install once, then open the lessons in JupyterLab (127.0.0.1, with a token)'
	@echo 'make check   install once, then ruff, mypy and the direction of imports'
	@echo 'make quick   install once, then the tests for work in between: all but the long ones'
	@echo 'make test    install once, then run the whole suite'
	@echo 'make gpu     measure what waits for a GPU, nine minutes a call, with the Python at hand'
	@echo 'make doctor  say what a lesson needs and whether it is here'
	@echo 'make clean   remove the environment and build products; data and runs stay'
	@echo 'Options: PYTHON=/path/to/python3.12  VENV=/path/with/room  LAB_ARGS="--no-browser --port=8899"  GPU_ARGS="--parts speed"  TEST_ARGS="-k name"  JOBS=2  NEED_GB=4'
