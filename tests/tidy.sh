#!/bin/sh
# clang-tidy (the checks of .clang-tidy) over the libraries and tools. Usage: sh tests/tidy.sh [--all | --since COMMIT | FILE...]
# Without arguments: the files changed since origin/main, or since the last commit. The exit code is 0 only without a finding. Slow, hence not
# part of tests/run.sh: up to 80 seconds a file. --all reads the files of a folder as one: 27 readings, a quarter of an hour of one processor
# (measured on an AMD EPYC), divided by as many as there are.
set -u
cd "$(dirname "$0")/.." || exit 1
. recipes/packages.sh
# shellcheck disable=SC2086
need_packages $build_packages $tidy_packages || exit 1

sources() { grep -E '^(lib|formats|cache|tools)/.*\.cpp$' | while read -r file; do [ ! -e "$file" ] || echo "$file"; done; }
unity=none
case ${1-} in
  --all) unity=all files=all ;;
  --since) files=$(git diff --name-only "${2:?}" | sources) ;;
  '') files=$(git diff --name-only "$(git merge-base HEAD origin/main 2>/dev/null || echo HEAD)" | sources) ;;
  *) files=$* ;;
esac
[ -n "$files" ] || { echo "no changed files"; exit 0; }

# shellcheck disable=SC2046
cmake -S . -B build/tidy -G Ninja $(launcher) -DQWB_TESTS=OFF -DQWB_UNITY=$unity -DCMAKE_CXX_COMPILER=clang++ >/dev/null || exit 1
# What is compiled, in place of what is in the sources: files of a folder as one.
checks=
if [ $unity = all ]; then
  checks=--checks=-bugprone-suspicious-include  # of .cpp files
  files=$(sed -n 's/^ *"file": "\(.*\)",*$/\1/p' build/tidy/compile_commands.json)
fi
# shellcheck disable=SC2086
echo "$files" | tr ' ' '\n' | nice xargs -P "$(nproc)" -n 1 clang-tidy-14 -p build/tidy --quiet $checks
