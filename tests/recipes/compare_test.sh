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

# Runs the recipe with more variables ($@) and expects $1 artifacts made and $2 evaluations.
expect() {
  made=$1 evaluated=$2 what=$3
  shift 3
  make -f "$source/recipes/compare.mk" MODEL="$work/model" METHODS="int8 nf4 rtn-4-g64-asym" QWB="$tools" WORK="$work/out" \
    EVAL="--ppl --windows 2 --no-baseline" "$@" >"$work/log" 2>&1 </dev/null || { cat "$work/log"; echo "make failed: $what"; exit 1; }
  got_made=$(grep -c 'qwb-quantize: done' "$work/log") || true
  got_evaluated=$(grep -c '^evaluating ' "$work/log") || true
  rows=$(grep -c "$work/cache" "$work/out/model/table.txt") || true
  if [ "$got_made" != "$made" ] || [ "$got_evaluated" != "$evaluated" ] || [ "$rows" != 3 ]; then
    cat "$work/log"
    echo "$what: $got_made made, $got_evaluated evaluated, $rows rows; expected $made, $evaluated and 3"
    exit 1
  fi
  echo "ok: $what"
}

expect 3 3 "the first run makes everything"
expect 0 0 "the second makes nothing"
touch "$work"/model/*
expect 0 0 "times mean nothing"
expect 0 3 "other flags of the evaluation" EVAL="--ppl --windows 1 --no-baseline"
expect 0 0 "back to the first flags"
cp "$source/recipes/demo/text/eval.txt" "$work/text"
expect 0 0 "the same text elsewhere" TEXT="$work/text"
sed -i '1s/.*/Another first line./' "$work/text"
expect 0 3 "another text" TEXT="$work/text"
# The lowest byte of the last f32.
cp "$work/model/model.safetensors" "$work/before"
size=$(wc -c <"$work/before")
byte=$(tail -c 4 "$work/before" | od -An -tu1 -N1 | tr -d ' ')
# shellcheck disable=SC2059
printf "\\$(printf %03o $((byte ^ 1)))" | dd of="$work/model/model.safetensors" bs=1 seek=$((size - 4)) conv=notrunc status=none
expect 3 3 "one weight changed"
cp "$work/before" "$work/model/model.safetensors"
expect 0 0 "the weight changed back"
