#!/bin/sh
# From a fresh checkout to a report of what each quantization costs and loses, on two tiny trained
# models that come with the sources.
# Usage: sh recipes/demo.sh   (Debian 12, Ubuntu 24.04; as root or with sudo for the packages)
set -eu
cd "$(dirname "$0")/.."
. recipes/packages.sh

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
if [ ! -t 1 ] || [ -n "${NO_COLOR-}" ]; then
  say() { printf '\n%s\n' "$*"; }
fi

cat <<'E1'
What comes:
  1. packages and build: some minutes the first time, then seconds
  2. a first result: within the first minute after the build
  3. every method on a small llama, then 4. on a small GPT-2: roughly ten minutes and five on two processors that have nothing else to
     do. After Ctrl-C the same command goes on where it was: what is done is in the cache
  5. two reports: tables here, pages with plots in build/
E1
say "1. Packages and build"
# shellcheck disable=SC2086
need_packages $build_packages
# shellcheck disable=SC2086
need_packages $plot_packages || echo "going on without plots"
# shellcheck disable=SC2046
cmake -S . -B build -G Ninja $(launcher) -DQWB_TESTS=OFF -DQWB_UNITY=all >/dev/null
cmake --build build --target qwb-quantize qwb-eval qwb-report

# quantize MODEL FLAGS...: adds the artifact to $artifacts. Artifacts in the cache are not made again.
quantize() {
  model=$1
  shift
  artifact=$(build/bin/qwb-quantize --model "recipes/demo/$model" "$@")
  artifacts="$artifacts $artifact"
}

# compare MODEL GROUP: every method, then one result a line. GROUP: channels that share a scale.
compare() {
  artifacts=
  quantize "$1" --method none --dtype bf16
  quantize "$1" --method int8
  quantize "$1" --method nf4
  quantize "$1" --method fp4
  quantize "$1" --method rtn --bits 4 --group-size 128
  quantize "$1" --method gptq --bits 4 --group-size "$2" --calib demo --samples 128
  quantize "$1" --method gptq --bits 3 --group-size "$2" --calib demo --samples 128
  # An artifact that the cache has from another clone names the original there.
  # shellcheck disable=SC2086
  build/bin/qwb-eval "recipes/demo/$1" $artifacts --baseline "recipes/demo/$1" \
    --ppl --kl --speed --energy --energy-seconds 3 --idle 3 --json >"build/demo-$1.json"
}

say "2. A first result: the small llama in 4 bits beside its original, on a part of the text"
first=$(build/bin/qwb-quantize -q --model recipes/demo/llama --method nf4)
build/bin/qwb-eval recipes/demo/llama "$first" --ppl --windows 8 -q

say "3. A small llama: 8 blocks, 8 million parameters, weights in bf16"
compare llama 128
say "4. A small GPT-2: 4 blocks, 3 million parameters, weights in f32"
compare gpt2 64

# report MODEL FILE MODULE: the table on the terminal, the page with plots beside it.
report() {
  say "5. $1"
  build/bin/qwb-report "build/demo-$1.json" --title "The demo $1: quantizations compared" --module "$3" --force --out "build/$2.html" \
    --out "build/$2.md" | tee "build/demo-$1.txt"
}
report gpt2 demo-report-gpt2 transformer.h.0.mlp.c_fc
report llama demo-report model.layers.0.mlp.up_proj

cat <<'E2'

perplexity: on recipes/demo/text/eval.txt, lower is better; its ± is one standard error
ratio:      to the unquantized model, paired window by window: 1.01 means one percent worse
energy:     ~ marks an estimate; where it comes from stands under Conditions (lib/evaluate/energy/energy.md)

The reports with plots: build/demo-report.html (llama) and build/demo-report-gpt2.html; the results themselves: build/demo-*.json.
The artifacts are folders in the cache (QWB_CACHE, else ~/.cache/qwb).
Run this again: the cache answers what was measured already. To try next:
  build/bin/qwb-quantize --help                                     all methods and their parameters
  build/bin/qwb-quantize --model DIR --method gptq --calib lima     your own model
  make -f recipes/compare.mk MODEL=DIR METHODS="nf4 gptq-4-g128"    a report that redoes only what changed
  make -f recipes/selective.mk                                      all in int8, some in int8, LLM.int8, NF4
E2
