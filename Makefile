# Every target sets up what it needs. Nothing outside this folder and the user's cache folder is touched.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
LOCK := $(shell command -v flock >/dev/null && echo flock .setup.lock)
# A module with words of the reader's, split as a shell would, and nothing in them run.
WITH := $(RUN) -c 'import os, shlex, sys; *first, words = sys.argv[1:]; os.execv(sys.executable, [sys.executable, "-m", *first, *shlex.split(words)])'
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: report record test lab notebook survey history atlas bench soak doctor clean help always
.DEFAULT_GOAL := help

help:
	@echo "make report                     run all notebooks, build outputs/report/index.html"
	@echo 'make report EVIDENCE="dir dir"  the same, with the evidence of other machines beside this one'
	@echo "make report KEEP=1 JOBS=2       put a run with a failure in place too; so many notebooks at once"
	@echo "make record NAME=h100           run all notebooks, keep this machine's findings in outputs/recorded/h100"
	@echo 'make doctor D="dir" GPU=121     which of the bugs the software here has, and what of it loads (GPU, DRIVER: another; D: more)'
	@echo 'make survey W="name==version"   whether a published wheel runs on SM120 and SM121; without W all of lib/survey/survey.toml, about 19 GB'
	@echo "make history                    read every release of FlashInfer anew, for notebook 08 and the doctor"
	@echo "make test                       all tests"
	@echo 'make test T="-m emulated"       those on aarch64, by emulation, in about an hour (root, apt-get and QEMU)'
	@echo 'make lab N=04 L="--ip=0.0.0.0"  JupyterLab on the notebooks, or on one, with options of yours'
	@echo "make lab N=11                   the workbench: ask about a tile, spec, pool, back end or model of your own"
	@echo 'make notebook N=04 P="a=b c=d"  one notebook with parameters of yours'
	@echo "make atlas                      measure the grid of notebook 12 again, on from where it was interrupted"
	@echo "make bench                      the measured bars"
	@echo "make soak SECONDS=600           kill, fill and corrupt runs at random, and see that the last report stays"
	@echo "CLUSTER=tcp://machine:8786      before or behind any of these: a Dask cluster answers what many machines can (see README)"
	@echo "SM12X_START_TIMEOUT=1200        before any of these: the seconds that a kernel may take to start, 600 if unset"
	@echo "make clean                      remove what was built here; the cache of downloads stays"

# Asked each time, in a tenth of a second: a torch that $(PYTHON) has is used and left alone, and the environment is remade if that changes.
$(VENV)/ready: always
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: make PYTHON=python3.12 ..."; exit 1; }
	@$(LOCK) $(PYTHON) -m lib.environment $(VENV)

# As they were given, through the environment: neither make nor the shell expands what is in them.
report record: override export JOBS := $(value JOBS)
report: override export KEEP := $(value KEEP)
report: override export EVIDENCE := $(value EVIDENCE)
record: override export NAME := $(value NAME)
record: override export NOTE := $(value NOTE)
test: override export T := $(value T)
lab notebook: override export N := $(value N)
lab: override export L := $(value L)
notebook: override export P := $(value P)
survey: override export W := $(value W)
bench: override export B := $(value B)
soak: override export SOAK := $(value SECONDS)
doctor: override export D := $(value D)
doctor: override export GPU := $(value GPU)
doctor: override export DRIVER := $(value DRIVER)
doctor: override export TRTLLM_SRC := $(value TRTLLM_SRC)

report: $(VENV)/ready
	@$(RUN) -m lib report $(if $(value JOBS),--jobs="$$JOBS") $(if $(value KEEP),--keep) --evidence="$$EVIDENCE"

record: $(VENV)/ready
	@test -n "$$NAME" || { echo "name the recorded run: make record NAME=h100"; exit 1; }
	@$(RUN) -m lib record $(if $(value JOBS),--jobs="$$JOBS") --note="$$NOTE" -- "$$NAME"

test: $(VENV)/ready
	@$(RUN) -m lib fetch
	@$(WITH) pytest "$$T"

lab: $(VENV)/ready
	@$(RUN) -m lib lab --number="$$N" --options="$$L"

notebook: $(VENV)/ready
	@test -n "$$N" || { echo 'name a notebook: make notebook N=04 P="target_arch=sm_120a"'; exit 1; }
	@$(RUN) -m lib notebook -- "$$N" "$$P"

survey: $(VENV)/ready
	@$(RUN) -m lib survey --which="$$W"

atlas: $(VENV)/ready
	@$(RUN) -m lib atlas

history: $(VENV)/ready
	@$(RUN) -m lib history

bench: $(VENV)/ready
	@$(WITH) tests.bench "$$B"

soak: $(VENV)/ready
	@$(RUN) -m tests.soak "$$SOAK"

doctor:
	@$(PYTHON) -m lib.doctor --gpu="$$GPU" --driver="$$DRIVER" --folders="$$D"

clean:
	rm -rf $(VENV) .setup.lock .pytest_cache .hypothesis outputs/notebooks outputs/report outputs/report.zip outputs/evidence.json outputs/single outputs/failed \
	 outputs/.building-* outputs/.recording-* outputs/.old-* outputs/.replaced outputs/.lock notebooks/.ipynb_checkpoints
