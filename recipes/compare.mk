# Quantizes a model in several ways, evaluates the original and each artifact, and reports. Repeats
# only the steps whose inputs changed by content.
#   make -f recipes/compare.mk MODEL=DIR METHODS="int8 nf4 rtn-4 gptq-4-g64 gptq-3-g64"
#
#   MODEL    a checkpoint in Hugging Face layout                        [the demo llama]
#   METHODS  METHOD[-BITS][-gGROUP][-bBLOCK][-asym] ...                  [int8 nf4 rtn-4 gptq-4]
#   TEXT     what perplexity is measured on                             [the demo's eval.txt]
#   CALIB    flags of the calibration, for methods that need it         [--calib demo]
#   EVAL     what to measure: --ppl --kl --speed --energy --windows N   [--ppl]
#   REPORT   more flags of qwb-report: --module NAME ...                []
#   QWB      folder of the tools                                        [build/bin, else the PATH]
#   WORK     where stamps, records and reports are kept                 [build/compare]
#
# The report: $(WORK)/MODEL/report.html, report.md, report.csv, table.txt and, where gnuplot is, plots/.
#
# A recipe that includes this one may name versions of its own among METHODS: quantize.NAME holds
# the flags of qwb-quantize, evaluate.NAME those of qwb-eval besides EVAL (see recipes/selective.mk).
#
# How: qwb-quantize runs every time, and the cache answers by content. A stamp holds the cache key and
# the artifact's folder, and is written only when they change. A record of qwb-eval is named by that
# key and by a hash of everything that the evaluation depends on (flags, text, version of the tool), so
# that going back to an earlier state finds the earlier record. The times of files do not matter.

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
out := $(WORK)/$(name)
stamps := $(METHODS:%=$(out)/%.artifact)
versions := original $(METHODS)
records := $(versions:%=$(out)/%.record)

# "gptq-4-g64" -> "--method gptq --bits 4 --group-size 64"
words_of = $(subst -, ,$1)
flag_of = $(if $(filter asym,$1),--asymmetric,$(if $(filter g%,$1),--group-size $(1:g%=%),$(if $(filter b%,$1),--block-size $(1:b%=%),--bits $1)))
flags_of = --method $(firstword $(words_of)) $(foreach word,$(wordlist 2,9,$(words_of)),$(call flag_of,$(word)))
needs_calibration = $(filter gptq awq,$(firstword $(words_of)))
quantize_flags = $(or $(quantize.$1),$(flags_of) $(if $(needs_calibration),$(CALIB)))

# Writes standard input to a file unless the file has that content already.
update = cat >$1.new && if cmp -s $1.new $1; then rm $1.new; else mv $1.new $1; fi

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: table always
.SUFFIXES:

table: $(out)/table.txt
	@cat $< && echo && echo "The report with plots: $(out)/report.html"

$(out) $(WORK)/records:
	@mkdir -p $@

$(stamps): $(out)/%.artifact: always | $(out)
	@artifact=$$($(QWB)/qwb-quantize --model '$(MODEL)' $(call quantize_flags,$*)) && \
	  key=$$(echo "$$artifact" | sed 's|/data/*$$||; s|.*/objects/||; s|/||g') && \
	  echo "$$key $$artifact" | { $(call update,$@); }

# The original has no key; its content hash serves as one.
$(out)/original.artifact: always | $(out)
	@key=$$($(QWB)/qwb-inspect '$(MODEL)' --json | sed -n 's/.*"hash":"\([0-9a-f]*\)".*/\1/p') && \
	  echo "$$key $(MODEL)" | { $(call update,$@); }

# Everything that a record depends on, except for the artifact.
$(versions:%=$(out)/%.evaluation): $(out)/%.evaluation: always | $(out)
	@{ $(QWB)/qwb-eval --version && echo '$(EVAL) $(evaluate.$*)' && cksum <'$(TEXT)'; } | cksum | tr ' ' - | { $(call update,$@); }

$(records): $(out)/%.record: $(out)/%.artifact $(out)/%.evaluation always | $(WORK)/records
	@read -r key artifact <$< && record=$(WORK)/records/$$key-$$(cat $(out)/$*.evaluation).json && \
	  if [ ! -s "$$record" ]; then \
	    echo "evaluating $*" && $(QWB)/qwb-eval "$$artifact" --json --text '$(TEXT)' $(EVAL) $(evaluate.$*) >"$$record.new" && \
	    mv "$$record.new" "$$record"; \
	  fi && echo "$$record" | { $(call update,$@); }

# A record never changes: its name contains the hash of its inputs.
$(out)/inputs: $(records) always
	@{ $(QWB)/qwb-report --version && echo '$(REPORT)' && command -v gnuplot; cat $(records); } | { $(call update,$@); }

$(out)/table.txt: $(out)/inputs
	@echo "reporting $(name)" && $(QWB)/qwb-report $(foreach version,$(versions),'$(version)'="$$(cat $(out)/$(version).record)") \
	  --title '$(name): $(versions)' $(REPORT) --force --out $(out)/report.html --out $(out)/report.md --out $(out)/report.csv \
	  $$(command -v gnuplot >/dev/null && echo --plots $(out)/plots) >$@
