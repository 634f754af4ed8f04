#!/bin/sh
# Prints what identifies every bit that the tools make: content hashes of artifacts of every method and choice, of every export, and the
# evaluator's values. Two builds that print the same lines (on one machine: bits differ between instruction sets) make the same artifacts.
# Usage: sh tests/golden/bits.sh FOLDER-OF-THE-TOOLS [MODEL-FOLDER...] >list     (about 3 minutes for the demo models on two cores; a model of 135 M
# parameters, SmolLM2 say, takes 10 more)
# bits.txt beside it: the list of commit 14e56a2 for the demo models and SmolLM2-135M-Instruct, on a Xeon with AMX and AVX512_BF16.
set -u
bin=$1
shift
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
export QWB_CACHE="$scratch/cache"
calib=recipes/demo/text/calib.jsonl

hash_of() { "$bin/qwb-inspect" "$1" --json 2>/dev/null | grep -o '"hash":"[0-9a-f]*"' | head -1 | cut -d'"' -f4; }

# made NAME FLAGS...: one artifact of $model.
made() {
  rm -rf "$scratch/artifact"
  name=$1
  shift
  if "$bin/qwb-quantize" --model "$model" --no-cache --out "$scratch/artifact" -q "$@" >/dev/null 2>"$scratch/error"; then
    echo "$label $name: $(hash_of "$scratch/artifact")"
  else
    echo "$label $name: exit $?"
  fi
}

# exported FROM NAME FLAGS...: an export of an artifact kept under that name.
exported() {
  from=$1 name=$2
  shift 2
  rm -rf "$scratch/export" "$scratch/export.gguf"
  place=$scratch/export
  case "$*" in *"--to gguf"*) place=$scratch/export.gguf ;; esac
  if "$bin/qwb-convert" "$from" "$place" -q "$@" >/dev/null 2>"$scratch/error"; then
    echo "$label convert $name: $(hash_of "$place")"
  else
    echo "$label convert $name: exit $?"
  fi
}

calibrated="--calib $calib --samples 8 --length 256"
data_free() {
  for type in source bf16 f16 f32; do made "none $type" --method none --dtype "$type"; done
  made int8 --method int8
  for method in nf4 fp4; do
    made "$method" --method "$method"
    made "$method flat 128" --method "$method" --no-double-quantization --block-size 128
  done
  for bits in 2 3 4 5 6 7 8; do
    made "rtn $bits g32" --method rtn --bits "$bits" --group-size 32
    made "rtn $bits g64 asymmetric" --method rtn --bits "$bits" --group-size 64 --asymmetric
  done
  made "rtn 4 row" --method rtn --group-size -1 --scale-dtype f32
  made "nf4 head" --method nf4 --lm-head
  made "rtn 4 g32 head, embeddings" --method rtn --group-size 32 --lm-head --embeddings
  made "int8 head, embeddings" --method int8 --lm-head --embeddings
  made "rtn some" --method rtn --include '*.[02].*' --exclude "$into"
}

with_data() {
  for refine in off codes full; do
    # shellcheck disable=SC2086
    made "gptq 4 g64 $refine" --method gptq --group-size 64 --refine $refine $calibrated
  done
  # shellcheck disable=SC2086
  {
    made "gptq 4 g64 act-order" --method gptq --group-size 64 --act-order $calibrated
    made "gptq 3 g64 asymmetric" --method gptq --bits 3 --group-size 64 --asymmetric $calibrated
    made "gptq 2 g64 off plain scales" --method gptq --bits 2 --group-size 64 --refine off --no-scale-search $calibrated
    made "gptq 8 row" --method gptq --bits 8 --group-size -1 $calibrated
    made "gptq 4 g64 head, embeddings" --method gptq --group-size 64 --lm-head --embeddings $calibrated
    made "awq 4 g64" --method awq --group-size 64 $calibrated
    made "awq 3 g64 symmetric values" --method awq --bits 3 --group-size 64 --symmetric --clip values $calibrated
    made "awq 4 g64 unscaled off" --method awq --group-size 64 --no-scale-channels --clip off $calibrated
    made "plan" --plan "$scratch/plan.json" $calibrated
  }
}

exports() {
  for choice in "4 g32:--method rtn --group-size 32 --scale-dtype f16" "4 g64a:--method rtn --group-size 64 --asymmetric --scale-dtype f16" \
    "3 g32:--method rtn --bits 3 --group-size 32 --scale-dtype f16" "8 row:--method rtn --bits 8 --group-size -1 --scale-dtype f16" \
    "nf4:--method nf4" "int8:--method int8" "as it is:--method none"; do
    rm -rf "$scratch/from"
    # shellcheck disable=SC2086
    "$bin/qwb-quantize" --model "$model" --no-cache --out "$scratch/from" -q ${choice#*:} >/dev/null 2>&1 || continue
    for format in gptq gptq-v1 gptq-v2 awq bitsandbytes compressed-tensors compressed-tensors-int huggingface qwb gguf; do
      exported "$scratch/from" "${choice%%:*} $format" --to "$format"
    done
  done
  for type in F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K; do
    exported "$model" "gguf $type" --to gguf --type "$type"
  done
}

# Values as the evaluator's JSON has them; times and paths left out.
values() {
  "$bin/qwb-eval" "$@" -q --json 2>/dev/null | grep -o '"\(value\|stderr\|mean\|p99\|ratio\)":[-0-9.e][-0-9.e]*' | tr '\n' ' '
}
evaluations() {
  rm -rf "$scratch/from"
  "$bin/qwb-quantize" --model "$model" --no-cache --out "$scratch/from" -q --method nf4 >/dev/null 2>&1
  for protocol in windows gptq llama.cpp hf-stride lm-eval; do
    echo "$label eval $protocol: $(values "$model" --ppl --protocol $protocol --windows 4 --text recipes/demo/text/eval.txt)"
  done
  echo "$label eval kl: $(values "$scratch/from" --baseline "$model" --ppl --kl --windows 4 --text recipes/demo/text/eval.txt)"
  echo "$label complete: $("$bin/qwb-complete" --model "$scratch/from" --max-tokens 48 --temperature 0 -q 'The history of the city' | cksum)"
}

# The second layer of a block's MLP, and the first, by the names of the model's family.
plan() {
  into='*.up_proj' out_of='*.down_proj'
  [ "$label" != gpt2 ] || { into='*.c_fc'; out_of='*.mlp.c_proj'; }
  cat >"$scratch/plan.json" <<PLAN
{"default": {"method": "gptq", "bits": 4, "group_size": 64}, "lm_head": true,
 "rules": [{"match": "$out_of", "method": "rtn", "bits": 8}, {"match": "$into", "method": "nf4"}, {"match": "*.1.*", "method": "skip"},
           {"match": "*.2.*", "method": "awq", "bits": 4, "group_size": 64}]}
PLAN
}

for model in recipes/demo/llama recipes/demo/gpt2 "$@"; do
  label=$(basename "$model")
  plan
  data_free
  with_data
  exports
  evaluations
done
