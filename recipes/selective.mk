# Compares how much of a model is quantized: all of it to int8, selected layers to int8, LLM.int8's own
# arithmetic, or NF4; with size, latency, memory and perplexity.
#   make -f recipes/selective.mk MODEL=DIR SELECT="*.mlp.*"
#
#   SELECT   the modules of int8-selected, a pattern of qwb-quantize --include    [the MLPs: "*.mlp.*"]
# All other variables are those of compare.mk; EVAL is [--ppl --kl --speed] here, WORK [build/selective].
#
#   int8-whole     every linear module, the output embedding and the token embeddings
#   int8-selected  only the modules that SELECT matches
#   LLM.int8       every linear module of the blocks, activations in 8 bits too
#                  except for outlier columns (--int8 decompose)
#   nf4            every linear module of the blocks

SELECT ?= *.mlp.*
METHODS ?= int8-whole int8-selected LLM.int8 nf4
quantize.int8-whole = --method int8 --lm-head --embeddings
quantize.int8-selected = --method int8 --include '$(SELECT)'
quantize.LLM.int8 = --method int8
evaluate.LLM.int8 = --int8 decompose
EVAL ?= --ppl --kl --speed
WORK ?= build/selective
include $(dir $(lastword $(MAKEFILE_LIST)))compare.mk
