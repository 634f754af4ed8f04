#!/bin/sh
# Speed of the methods without calibration against `cp` of the checkpoint's files from the page cache, in one run and in turns: seconds of
# cp, of flushing its copy (what qwb-quantize keeps is on the disk when it ends), and of each method with a cache of its own, hashing
# of the checkpoint and of the artifact included; medians. The checkpoint is random: BLOCKS blocks of Mistral-7B's shapes.
# Usage: sh tests/bench/quantize_speed.sh BUILD_FOLDER [ROUNDS [BLOCKS]]     packages: python3-numpy
# $QWB_BENCH_FOLDER (/tmp): where all of it lies.
set -eu
bin=$(cd "$1" && pwd)/bin rounds=${2:-5} blocks=${3:-2}
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d "${QWB_BENCH_FOLDER:-/tmp}/qwb-quantize-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
python3 "$here/make_mistral_blocks.py" plain "$blocks" 4096
cat plain/* >/dev/null
sync

seconds() {  # COMMAND...
  begin=$(date +%s%N)
  "$@" >log 2>&1 || { cat log >&2; exit 1; }
  echo "$begin $(date +%s%N)" | awk '{ printf "%.3f\n", ($2 - $1) / 1e9 }'
}
flush() { find copied -type f -exec sync {} +; }
middle() { sort -n "$1" | awk '{ value[NR] = $1 } END { print NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2 }'; }

for round in $(seq "$rounds"); do
  seconds cp -r plain copied >>cp
  seconds flush >>flush
  rm -rf copied
  for method in rtn nf4 int8; do
    export QWB_CACHE="$scratch/cache"
    seconds "$bin/qwb-quantize" -q --model plain --method "$method" >>"$method"
    rm -rf "$QWB_CACHE"
  done
done
copy=$(middle cp) flushed=$(middle flush)
echo "cp $copy s, flushing the copy $flushed s ($(du -sb plain | cut -f1) bytes)"
for method in rtn nf4 int8; do
  middle "$method" | awk -v m="$method" -v c="$copy" -v f="$flushed" '{ printf "%-5s %.3f s: %.2f of the speed of cp, %.2f of cp and flush\n", m, $1, c / $1, (c + f) / $1 }'
done
