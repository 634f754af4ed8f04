#!/bin/sh
# Speed of qwb-convert, in one run and in turns: exact repacks against `cp` of the larger of input and output, GGUF of Q4_0 and Q8_0
# against llama.cpp's llama-quantize on as many threads. Files lie in memory ($QWB_BENCH_FOLDER, /dev/shm), so that neither reads nor
# writes wait for a disk; on a disk `cp` is followed by `sync`, since qwb-convert flushes what it writes.
# Then, untimed, the peak memory of each: anonymous (what it allocates) and resident (mapped files included, which it gives back).
# Usage: sh tests/bench/convert_speed.sh BUILD_FOLDER [LLAMA_BIN [ROUNDS [BLOCKS]]]     packages: python3-numpy
# The checkpoint is random: BLOCKS blocks of Mistral-7B's shapes (make_mistral_blocks.py). $QWB_BENCH_ONLY: repack or gguf.
set -eu
bin=$(cd "$1" && pwd)/bin llama=${2:-} rounds=${3:-5} blocks=${4:-4}
here=$(cd "$(dirname "$0")" && pwd)
threads=$(nproc)
scratch=$(mktemp -d "${QWB_BENCH_FOLDER:-/dev/shm}/qwb-convert-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
only=${QWB_BENCH_ONLY:-repack gguf}
export LD_LIBRARY_PATH="$llama${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
cd "$scratch"

# now: nanoseconds; bytes PATH: of a file or folder
now() { date +%s%N; }
bytes() { du -sb "$1" | cut -f1; }
seconds() {  # COMMAND...: seconds it takes; what it made is removed by the caller
  begin=$(now)
  "$@" >log 2>&1 || { cat log >&2; exit 1; }
  echo "$begin $(now)" | awk '{ printf "%.4f", ($2 - $1) / 1e9 }'
}
copy() { cp -r "$1" copied && find copied -type f -exec sync {} +; }
# FILE of lines "ours theirs" in seconds: the median ratio theirs / ours, its range, and the medians
summary() {
  awk '{ ours[NR] = $1; theirs[NR] = $2; ratio[NR] = $2 / $1 }
    function sort(a, n, i, j, t) { for (i = 1; i <= n; ++i) for (j = i + 1; j <= n; ++j) if (a[j] < a[i]) { t = a[i]; a[i] = a[j]; a[j] = t } }
    function middle(a, n) { return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2 }
    END { sort(ours, NR); sort(theirs, NR); sort(ratio, NR)
      printf "%6.2f (%.2f to %.2f)   %7.3f s  %7.3f s", middle(ratio, NR), ratio[1], ratio[NR], middle(ours, NR), middle(theirs, NR) }' "$1"
}
# COMMAND...: "anonymous resident" in MB at their peaks, looked up every 5 ms
peak() {
  "$@" >log 2>&1 &
  pid=$!
  anonymous=0
  resident=0
  while kill -0 "$pid" 2>/dev/null; do
    found=$(awk '/^RssAnon:/ { a = $2 } /^VmHWM:/ { r = $2 } END { print a + 0, r + 0 }' "/proc/$pid/status" 2>/dev/null || echo 0 0)
    [ "${found% *}" -le "$anonymous" ] || anonymous=${found% *}
    [ "${found#* }" -le "$resident" ] || resident=${found#* }
    sleep 0.005
  done
  wait "$pid" || { cat log >&2; exit 1; }
  echo "$((anonymous / 1024)) $((resident / 1024))"
}

python3 "$here/make_mistral_blocks.py" plain "$blocks" 4096
quantize() { "$bin/qwb-quantize" --model plain --method rtn "$@" --no-cache -q >/dev/null; }
convert() { "$bin/qwb-convert" "$@" -q >/dev/null; }

repack() {  # FROM FORMAT: conversions of folder FROM against cp
  size=$(bytes "$1")
  : >times
  for round in $(seq "$rounds"); do
    ours=$(seconds "$bin/qwb-convert" "$1" --to "$2" made --threads "$threads" -q)
    larger=$1
    [ "$(bytes made)" -le "$size" ] || larger=made
    [ "$larger" = made ] && mv made kept && larger=kept || rm -rf made
    theirs=$(seconds copy "$larger")
    echo "$ours $theirs" >>times
    rm -rf copied kept
  done
  figures=$(summary times)
  set -- "$1" "$2" $(peak "$bin/qwb-convert" "$1" --to "$2" made --threads "$threads" -q)
  rm -rf made
  echo "$1 $2 $figures $3 $4 $size" | awk '{ printf "%-9s -> %-22s %s %s %s %s   %s s  %s s   %5d MB  %5d MB   (%d MB)\n", $1, $2, $3, $4, $5, $6, $7, $9, $11, $12, $13 / 1e6 }'
}

case $only in *repack*)
  quantize --bits 4 --group-size 32 --out int4
  quantize --bits 8 --group-size 32 --out int8
  for format in gptq awq compressed-tensors; do convert int4 --to $format "$format"; done
  convert int4 --to gguf int4.gguf
  convert int8 --to gguf int8.gguf
  echo "exact repack              times cp's speed (range)      ours       cp       anonymous  resident  (input)"
  repack int4 gptq
  repack gptq qwb
  repack gptq awq
  repack awq gptq
  repack awq compressed-tensors
  repack compressed-tensors gptq
  repack gptq gguf
  repack int4.gguf gptq
  repack int8 gguf
  repack int8.gguf qwb
  rm -rf int4 int8 gptq awq compressed-tensors int4.gguf int8.gguf
esac

case $only in *gguf*)
  [ -n "$llama" ] || exit 0
  echo "GGUF of $threads threads      times llama.cpp's speed (range)  ours    llama-quantize   anonymous  resident"
  for from in F16 BF16 F32; do
    convert plain --to gguf --type $from $from.gguf
    for type in Q4_0 Q8_0; do
      : >times
      for round in $(seq "$rounds"); do
        ours=$(seconds "$bin/qwb-convert" plain --to gguf --type $type made.gguf --threads "$threads" -q)
        rm -f made.gguf
        theirs=$(seconds "$llama/llama-quantize" --pure $from.gguf theirs.gguf $type "$threads")
        rm -f theirs.gguf
        echo "$ours $theirs" >>times
      done
      figures=$(summary times)
      memory=$(peak "$bin/qwb-convert" plain --to gguf --type $type made.gguf --threads "$threads" -q)
      rm -f made.gguf
      echo "folder -> $type, $from.gguf -> $type   $figures   ${memory% *} MB  ${memory#* } MB"
    done
    rm -f $from.gguf
  done
esac
