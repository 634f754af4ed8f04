#!/bin/sh
# From a fresh checkout to a table of what each quantization costs and loses, on two tiny trained models that come with the sources.
# Usage: sh recipes/demo.sh   (Debian 12, Ubuntu 24.04; as root or with sudo for the packages)
set -eu
cd "$(dirname "$0")/.."
. recipes/packages.sh

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
if [ ! -t 1 ] || [ -n "${NO_COLOR-}" ]; then
  say() { printf '\n%s\n' "$*"; }
fi

say "1. Packages and build (some minutes the first time)"
# shellcheck disable=SC2086
need_packages $build_packages
# shellcheck disable=SC2046
cmake -S . -B build -G Ninja $(launcher) -DQWB_TESTS=OFF >/dev/null
cmake --build build --target qwb-quantize qwb-eval

# quantize MODEL FLAGS...: adds the artifact to $artifacts. What is in the cache already is not made again.
quantize() {
  model=$1
  shift
  artifact=$(build/bin/qwb-quantize --model "recipes/demo/$model" "$@")
  artifacts="$artifacts $artifact"
}

# compare MODEL GROUP: every method, then one table. GROUP: channels that share a scale.
compare() {
  artifacts=
  quantize "$1" --method none --dtype bf16
  quantize "$1" --method int8
  quantize "$1" --method nf4
  quantize "$1" --method fp4
  quantize "$1" --method rtn --bits 4 --group-size 128
  quantize "$1" --method gptq --bits 4 --group-size "$2" --calib demo --samples 128
  quantize "$1" --method gptq --bits 3 --group-size "$2" --calib demo --samples 128
  # shellcheck disable=SC2086
  build/bin/qwb-eval "recipes/demo/$1" $artifacts --ppl --speed --energy --energy-seconds 3 --idle 3 >"build/demo-$1.txt"
}

say "2. A small llama: 8 blocks, 8 million parameters, weights in bf16"
compare llama 128
say "3. A small GPT-2: 4 blocks, 3 million parameters, weights in f32"
compare gpt2 64

for model in llama gpt2; do
  say "$model"
  cat "build/demo-$model.txt"
done
cat <<'E2'

perplexity: on recipes/demo/text/eval.txt, lower is better; its ± is one standard error
ratio:      to the unquantized model, paired window by window: 1.01 means one percent worse
energy:     of one generated token, with where the figure comes from (lib/evaluate/energy/energy.md)

The artifacts are folders in the cache (QWB_CACHE, else ~/.cache/qwb); the tables are in build/demo-llama.txt and build/demo-gpt2.txt.
Run this again: the cache answers, and only the evaluation is repeated. To try next:
  build/bin/qwb-quantize --help                                     all methods and their parameters
  build/bin/qwb-quantize --model DIR --method gptq --calib lima     your own model
  make -f recipes/compare.mk MODEL=DIR METHODS="nf4 gptq-4-g128"    a table that redoes only what changed
E2
