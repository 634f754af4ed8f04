# The full-precision model, NF4 and GPTQ side by side: the two usual first choices, one without and one
# with calibration data.
#   make -f recipes/baselines.mk MODEL=DIR BITS="4 3"
#
#   BITS     of GPTQ                                                    [4]
# All other variables are those of compare.mk; EVAL is [--ppl --kl --speed --energy] here, WORK [build/baselines].

BITS ?= 4
METHODS ?= nf4 $(BITS:%=gptq-%)
EVAL ?= --ppl --kl --speed --energy
WORK ?= build/baselines
include $(dir $(lastword $(MAKEFILE_LIST)))compare.mk
