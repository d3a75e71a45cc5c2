# Every target works in a fresh clone; plain `make` lists them.
PYTHON  ?= python3
VENV    ?= .venv
PROFILE ?= nano
ARM     ?= vigorl
SEED    ?= 0

# The pipeline needs no model hub. PROFILEs with a large model: HF_HUB_OFFLINE=0.
HF_HUB_OFFLINE ?= 1
export HF_HUB_OFFLINE

# glibc hands large blocks back to the system at once, which then fills them with zeros for every tensor anew.
# Kept instead, GRPO takes about a fifth less time on two cores; other C libraries ignore these.
export MALLOC_MMAP_MAX_ = 0
export MALLOC_TRIM_THRESHOLD_ = 20000000000
export MALLOC_TOP_PAD_ = 67108864

RUN   := $(VENV)/bin/python -m
READY := $(VENV)/.ready
OUT   := $(or $(VIGORL_OUTPUTS),outputs)/$(PROFILE)/$(ARM)/seed$(SEED)

# A profile's steps are the notebooks that it holds parameters for.
ALL   := $(filter $(notdir $(basename $(wildcard params/$(PROFILE)/*.yaml))), \
                  $(notdir $(basename $(sort $(wildcard notebooks/*.ipynb)))))
# Evaluations that do not fit into the half hour of the nano profile.
LATER := $(if $(filter nano,$(PROFILE)),$(filter 07_% 08_% 09_% 10_% 11_% 13_% 14_%,$(ALL)))
STEPS := $(filter-out $(LATER),$(ALL))
MANIFESTS := $(STEPS:%=$(OUT)/%/manifest.json)

.PHONY: help setup reproduce smoke base evaluate museum claims ledger test lab lint address clean names
.NOTPARALLEL:
.SECONDEXPANSION:

help:
	@echo "Targets:"
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo "Variables: PYTHON=$(PYTHON) VENV=$(VENV) PROFILE=$(PROFILE) ARM=$(ARM) SEED=$(SEED) TORCH_INDEX=$(TORCH_INDEX)"

setup: $(READY)  ## create the environment and install everything into it

reproduce: names $(MANIFESTS)  ## run the whole pipeline (resumes where it was interrupted)
	@echo "Done. Executed notebooks, figures and manifests: $(OUT)"
	@$(if $(filter 12_%,$(STEPS)),echo "The report: $(OUT)/$(filter 12_%,$(STEPS))")

smoke:  ## run every notebook for a few steps only
	@$(MAKE) --no-print-directory PROFILE=smoke reproduce

base:  ## train a nano base of your own (notebook 01, up to an hour)
	@$(MAKE) --no-print-directory PROFILE=base reproduce

evaluate:  ## run and record the evaluations that reproduce leaves out (minutes each; 09 up to twenty)
	@$(MAKE) --no-print-directory STEPS="$(filter-out 13_%,$(LATER))" reproduce
	$(RUN) vigorl_lib.report record $(OUT) --step 07_eval_visual_search
	$(RUN) vigorl_lib.report record $(OUT) --step 09_eval_web_agents
	$(RUN) vigorl_lib.report record $(OUT) --step 11_behaviours

museum:  ## train with five rewards that fail (eighteen minutes), and record what that bought
	@$(MAKE) --no-print-directory STEPS="$(filter 13_%,$(LATER))" reproduce
	$(RUN) vigorl_lib.report record $(OUT) --step $(filter 13_%,$(LATER))
	mkdir -p outputs/reference/museum
	cp $(addprefix $(OUT)/$(filter 13_%,$(LATER))/,curves.json exhibits.jsonl) outputs/reference/museum

claims: $(READY)  ## train all arms over all seeds (hours; resumes) and judge the paper's claims
	$(RUN) vigorl_lib.claims run --part 1/2 & first=$$!; $(RUN) vigorl_lib.claims run --part 2/2; second=$$?; \
	wait $$first && exit $$second
	$(RUN) vigorl_lib.claims judge

ledger: $(READY)  ## measure where paper and code disagree (about half an hour; resumes)
	$(RUN) vigorl_lib.ledger run
	$(RUN) vigorl_lib.ledger judge

test: $(READY)  ## run the tests
	OMP_NUM_THREADS=1 $(RUN) pytest -n 2

lab: $(READY)  ## open the notebooks in JupyterLab
	$(RUN) jupyter lab notebooks

lint: $(READY)  ## check, format and strip what git tracks
	PATH="$(abspath $(VENV))/bin:$$PATH" pre-commit run --all-files

address:  ## write ADDRESS, where your copy of the kit is on the web, into the notebooks (Colab installs from there)
	@$(if $(ADDRESS),,$(error give it: make address ADDRESS=WHERE-YOUR-COPY-IS))
	sed -i.old -E -e 's,(address = \\")[^"\]*,\1$(ADDRESS),' \
	  -e 's,(colab[.a-z]*/github/).*(/blob/),\1$(word 3,$(subst /, ,$(ADDRESS)))/$(word 4,$(subst /, ,$(ADDRESS)))\2,' notebooks/*.ipynb
	rm notebooks/*.old

clean:  ## delete the outputs of one PROFILE, ARM and SEED
	rm -rf $(OUT)

# torch comes first and alone, at its pinned version, so that a CPU build is taken where the index has one;
# TORCH_INDEX=URL names such an index.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and \
	  "Python 3.11, 3.12 or 3.13 is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12")'
	test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	$(RUN) pip install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $$(grep '^torch==' constraints.txt)
	$(RUN) pip install -c constraints.txt -e ".[train,serve,web,notebooks,dev]"
	@touch $@

# A misspelt name would otherwise run nothing, or the plain pipeline under a wrong name.
names:
	@$(if $(STEPS),,$(error PROFILE=$(PROFILE): no notebook has a file in params/$(PROFILE)))
	@$(if $(filter vigorl,$(ARM))$(wildcard params/arms/$(ARM)),,$(error ARM=$(ARM): no folder params/arms/$(ARM)))

# A step is done when its manifest exists: the notebook writes it last. An arm changes a step by a file
# params/arms/<arm>/<notebook>.yaml, laid over the profile's.
$(OUT)/%/manifest.json: notebooks/%.ipynb params/$(PROFILE)/%.yaml $$(wildcard params/arms/$(ARM)/$$*.yaml) | $(READY)
	@$(RUN) vigorl_lib.runs check $< $(filter params/%,$^)
	@mkdir -p $(@D)
	$(RUN) papermill $< $(@D)/$*.ipynb $(patsubst %,-f %,$(filter params/%,$^)) \
	  -p seed $(SEED) -p out_dir $(@D) --log-output
	@test -f $@ || { echo "notebooks/$*.ipynb ended without run.finish(...), so $@ is missing" >&2; exit 1; }

# Who reads whom, by number: $(call after,STEP,EARLIER STEPS).
after = $(foreach step,$(filter $(1)_%,$(STEPS)),$(eval $(OUT)/$(step)/manifest.json: \
  $(foreach number,$(2),$(patsubst %,$(OUT)/%/manifest.json,$(filter $(number)_%,$(STEPS))))))
$(call after,03,02)
$(call after,04,03)
$(call after,05,02 03)
$(call after,06,03 04)

# The report compares with vanilla GRPO: step 04 of that arm runs as part of the plain pipeline.
ifeq ($(ARM),vigorl)
VANILLA := $(filter 04_%,$(STEPS))
ifneq ($(VANILLA),)
VANILLA_DONE := $(OUT:%/vigorl/seed$(SEED)=%/vanilla/seed$(SEED))/$(VANILLA)/manifest.json
$(OUT)/$(filter 06_%,$(STEPS))/manifest.json: $(VANILLA_DONE)
$(VANILLA_DONE): notebooks/$(VANILLA).ipynb params/$(PROFILE)/$(VANILLA).yaml params/arms/vanilla/$(VANILLA).yaml
	@$(MAKE) --no-print-directory ARM=vanilla STEPS=$(VANILLA) reproduce
endif
endif

$(call after,07,05)
$(call after,08,05)
$(call after,10,04)
$(call after,11,05)
$(call after,14,04)
$(call after,12,00 01 02 03 04 05 06 07 08 09 10 11)
