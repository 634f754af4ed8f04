#!/bin/sh
# recipes/compare.mk redoes what changed by content, and nothing else. usage: compare_test.sh FOLDER-OF-TOOLS
set -eu
tools=$1
source=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export QWB_CACHE="$work/cache"
mkdir "$work/model"
cp "$source"/recipes/demo/gpt2/* "$work/model/"

# Runs the recipe with more variables ($@) and expects $1 artifacts made, $2 evaluations and $3 reports.
expect() {
  made=$1 evaluated=$2 reported=$3 what=$4
  shift 4
  make -f "$source/recipes/compare.mk" MODEL="$work/model" METHODS="int8 nf4 rtn-4-g64-asym" QWB="$tools" WORK="$work/out" \
    EVAL="--ppl --windows 2 --no-baseline" "$@" >"$work/log" 2>&1 </dev/null || { cat "$work/log"; echo "make failed: $what"; exit 1; }
  got_made=$(grep -c 'qwb-quantize: done' "$work/log") || true
  got_evaluated=$(grep -c '^evaluating ' "$work/log") || true
  got_reported=$(grep -c '^reporting ' "$work/log") || true
  rows=$(($(wc -l <"$work/out/model/report.csv") - 1))
  if [ "$got_made $got_evaluated $got_reported $rows" != "$made $evaluated $reported 4" ]; then
    cat "$work/log"
    echo "$what: $got_made made, $got_evaluated evaluated, $got_reported reported, $rows rows; expected $made, $evaluated, $reported, 4"
    exit 1
  fi
  for version in original int8 nf4 rtn-4-g64-asym; do
    grep -q "^$version " "$work/out/model/table.txt" || { echo "$what: no $version in the table"; exit 1; }
  done
  echo "ok: $what"
}

expect 3 4 1 "the first run makes everything"
expect 0 0 0 "the second makes nothing"
touch "$work"/model/*
expect 0 0 0 "times mean nothing"
expect 0 4 1 "other flags of the evaluation" EVAL="--ppl --windows 1 --no-baseline"
expect 0 0 1 "back to the first flags"
cp "$source/recipes/demo/text/eval.txt" "$work/text"
expect 0 0 0 "the same text elsewhere" TEXT="$work/text"
sed -i '1s/.*/Another first line./' "$work/text"
expect 0 4 1 "another text" TEXT="$work/text"
# The lowest byte of the last f32.
cp "$work/model/model.safetensors" "$work/before"
size=$(wc -c <"$work/before")
byte=$(tail -c 4 "$work/before" | od -An -tu1 -N1 | tr -d ' ')
# shellcheck disable=SC2059
printf "\\$(printf %03o $((byte ^ 1)))" | dd of="$work/model/model.safetensors" bs=1 seek=$((size - 4)) conv=notrunc status=none
expect 3 4 1 "one weight changed"
cp "$work/before" "$work/model/model.safetensors"
expect 0 0 1 "the weight changed back"
# The other recipes are this one with versions of their own: that each makes what it names, from the same cache.
other() {
  recipe=$1 expected=$2
  shift 2
  make -f "$source/recipes/$recipe" MODEL="$work/model" QWB="$tools" WORK="$work/$recipe" CALIB="--calib demo --samples 2" \
    EVAL="--ppl --kl --windows 2 --speed --pp 16 --tg 4 --repetitions 2" "$@" >"$work/log" 2>&1 </dev/null ||
    { cat "$work/log"; echo "make failed: $recipe"; exit 1; }
  got=$(sed '1d; s/,.*//' "$work/$recipe/model/report.csv" | tr '\n' ' ')
  [ "$got" = "$expected" ] || { cat "$work/log"; echo "$recipe made: $got"; exit 1; }
  [ -s "$work/$recipe/model/report.html" ] && [ -s "$work/$recipe/model/report.md" ]
  if command -v gnuplot >/dev/null 2>&1; then
    for plot in size decode memory perplexity loss-against-bpw; do
      [ -s "$work/$recipe/model/plots/$plot.svg" ] || { echo "$recipe: no plot of $plot"; exit 1; }
    done
  fi
  echo "ok: $recipe"
}
other baselines.mk "original nf4 gptq-4 "
other selective.mk "original int8-whole int8-selected LLM.int8 nf4 "
# LLM.int8 is the only one that says how it ran.
grep -q '"name":"LLM.int8"' "$(cat "$work/selective.mk/model/LLM.int8.record")"
