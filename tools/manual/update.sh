#!/bin/sh
# Brings the section "Options" of every tools/NAME.md up to what the built tools declare. Usage: sh tools/manual/update.sh [BIN]
set -eu
cd "$(dirname "$0")/../.."
bin=${1:-build/bin}
[ -x "$bin/qwb-quantize" ] || { echo "no built tools in $bin" >&2; exit 2; }
for page in tools/qwb-*.md; do
  tool=$(basename "$page" .md)
  new=$("$bin/$tool" --generate page "$page"; echo .)  # the final newline is kept
  printf %s "${new%.}" >"$page"
done
