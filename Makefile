# Every target sets up what it needs. Nothing outside this folder and the user's cache folder is touched.
PYTHON ?= python3
JOBS ?=
N ?=
P ?=
B ?=
T ?=
NAME ?=
EVIDENCE ?=
L ?=
D ?=
GPU ?=
VENV := .venv
RUN := $(VENV)/bin/python
LOCK := $(shell command -v flock >/dev/null && echo flock .setup.lock)
JUPYTER_HOME := $(CURDIR)/$(VENV)/jupyter
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: report record test lab notebook bench doctor clean help always
.DEFAULT_GOAL := help

help:
	@echo "make report                     run all notebooks, build outputs/report/index.html"
	@echo 'make report EVIDENCE="dir dir"  the same, with the evidence of other machines beside this one'
	@echo "make record NAME=h100           run all notebooks, keep this machine's findings in outputs/recorded/h100"
	@echo 'make doctor D="dir" GPU=121     which of the five bugs the software here has (D: more places; GPU: not this one)'
	@echo "make test                       all tests"
	@echo 'make test T="-m emulated"       those on aarch64, by emulation, in half an hour (root, apt-get and QEMU)'
	@echo 'make lab L="--ip=0.0.0.0"       JupyterLab on the notebooks, with options of yours'
	@echo 'make notebook N=04 P="a=b c=d"  one notebook with parameters of yours'
	@echo "make bench                      the measured bars"
	@echo "SM12X_START_TIMEOUT=1200        before any of these: the seconds that a kernel may take to start, 600 if unset"
	@echo "make clean                      remove what was built here; the cache of downloads stays"

# Asked each time, in a tenth of a second: a torch that $(PYTHON) has is used and left alone, and the environment is remade if that changes.
$(VENV)/ready: always
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: make PYTHON=python3.12 ..."; exit 1; }
	@$(LOCK) $(PYTHON) -m lib.environment $(VENV)

report: $(VENV)/ready
	@$(RUN) -m lib report $(if $(JOBS),--jobs $(JOBS)) $(if $(EVIDENCE),--evidence $(EVIDENCE))

record: $(VENV)/ready
	@test -n "$(NAME)" || { echo "name the recorded run: make record NAME=h100"; exit 1; }
	@$(RUN) -m lib record $(if $(JOBS),--jobs $(JOBS)) $(if $(NOTE),--note "$(NOTE)") -- "$(NAME)"

test: $(VENV)/ready
	@$(RUN) -m lib fetch
	@$(RUN) -m pytest $(T)

lab: $(VENV)/ready
	@JUPYTER_PREFER_ENV_PATH=1 JUPYTER_CONFIG_DIR=$(JUPYTER_HOME)/config JUPYTER_DATA_DIR=$(JUPYTER_HOME)/data \
	 JUPYTER_RUNTIME_DIR=$(JUPYTER_HOME)/runtime IPYTHONDIR=$(JUPYTER_HOME)/ipython \
	 $(RUN) -m jupyterlab --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks $(L)

notebook: $(VENV)/ready
	@test -n "$(N)" || { echo 'name a notebook: make notebook N=04 P="target_arch=sm_120a"'; exit 1; }
	@$(RUN) -m lib notebook $(N) $(P)

bench: $(VENV)/ready
	@$(RUN) -m tests.bench $(B)

# As they were given, through the environment: neither make nor the shell expands what is in them.
doctor: override export D := $(value D)
doctor: override export GPU := $(value GPU)
doctor: override export TRTLLM_SRC := $(value TRTLLM_SRC)
doctor:
	@$(PYTHON) -m lib.doctor --gpu="$$GPU" --folders="$$D"

clean:
	rm -rf $(VENV) .setup.lock .pytest_cache .hypothesis outputs/notebooks outputs/report outputs/report.zip outputs/evidence.json outputs/single
