# Quantizes a model in several ways, evaluates each artifact and prints one table; redoes only what changed by content.
#   make -f recipes/compare.mk MODEL=DIR METHODS="int8 nf4 rtn-4 gptq-4-g64 gptq-3-g64"
#
#   MODEL    a checkpoint in Hugging Face layout                        [the demo llama]
#   METHODS  METHOD[-BITS][-gGROUP][-bBLOCK][-asym] ...                  [int8 nf4 rtn-4 gptq-4]
#   TEXT     what perplexity is measured on                             [the demo's eval.txt]
#   CALIB    flags of the calibration, for methods that need it         [--calib demo]
#   EVAL     what to measure: --ppl --speed --energy --windows N ...    [--ppl]
#   QWB      folder of the tools                                        [build/bin, else the PATH]
#   WORK     where stamps, records and the table are kept               [build/compare]
#
# How: qwb-quantize is asked every time, and the cache answers by content. A stamp holds the artifact's path, whose digits are the cache
# key, and is written only when that changes. A record of qwb-eval is named by that key and by a hash of all that decides the evaluation
# (flags, text, version of the tool), so that going back to an earlier state finds the earlier record. Times of files decide nothing.

here := $(dir $(lastword $(MAKEFILE_LIST)))
demo := $(firstword $(wildcard $(here)demo) $(here)demo)
MODEL ?= $(demo)/llama
METHODS ?= int8 nf4 rtn-4 gptq-4
TEXT ?= $(demo)/text/eval.txt
CALIB ?= --calib demo
EVAL ?= --ppl
QWB ?= $(patsubst %/qwb-eval,%,$(firstword $(wildcard $(here)../build/bin/qwb-eval) $(shell command -v qwb-eval)))
WORK ?= build/compare

name := $(notdir $(patsubst %/,%,$(MODEL)))
stamps := $(METHODS:%=$(WORK)/$(name)/%.artifact)
records := $(METHODS:%=$(WORK)/$(name)/%.record)

# "gptq-4-g64" -> "--method gptq --bits 4 --group-size 64"
words_of = $(subst -, ,$1)
flag_of = $(if $(filter asym,$1),--asymmetric,$(if $(filter g%,$1),--group-size $(1:g%=%),$(if $(filter b%,$1),--block-size $(1:b%=%),--bits $1)))
flags_of = --method $(firstword $(words_of)) $(foreach word,$(wordlist 2,9,$(words_of)),$(call flag_of,$(word)))
needs_calibration = $(filter gptq awq,$(firstword $(words_of)))

# Writes standard input to a file unless it holds just that already.
update = cat >$1.new && if cmp -s $1.new $1; then rm $1.new; else mv $1.new $1; fi

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: table always
.SUFFIXES:

table: $(records)
	@$(QWB)/qwb-eval --table $$(cat $(records)) | tee $(WORK)/$(name)/table.txt

$(WORK)/$(name) $(WORK)/records:
	@mkdir -p $@

$(stamps): $(WORK)/$(name)/%.artifact: always | $(WORK)/$(name)
	@artifact=$$($(QWB)/qwb-quantize --model '$(MODEL)' $(call flags_of,$*) $(if $(call needs_calibration,$*),$(CALIB))) && \
	  echo "$$artifact" | { $(call update,$@); }

# Everything but the artifact that decides a record.
$(WORK)/$(name)/evaluation: always | $(WORK)/$(name)
	@{ $(QWB)/qwb-eval --version && echo '$(EVAL)' && cksum <'$(TEXT)'; } | cksum | tr ' ' - | { $(call update,$@); }

$(records): %.record: %.artifact $(WORK)/$(name)/evaluation always | $(WORK)/records
	@artifact=$$(cat $<) && key=$$(echo "$$artifact" | sed 's|/data/*$$||; s|.*/objects/||; s|/||g') && \
	  record=$(WORK)/records/$$key-$$(cat $(WORK)/$(name)/evaluation).json && \
	  if [ ! -s "$$record" ]; then \
	    echo "evaluating $(*F)" && $(QWB)/qwb-eval "$$artifact" --json --text '$(TEXT)' $(EVAL) >"$$record.new" && mv "$$record.new" "$$record"; \
	  fi && echo "$$record" >$@
