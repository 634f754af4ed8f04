#!/bin/sh
# clang-tidy (the checks of .clang-tidy) over the libraries and tools. Usage: sh tests/tidy.sh [--all | --since COMMIT | FILE...]
# Without arguments: the files changed since origin/main, or since the last commit. Slow (several seconds a file): not part of tests/run.sh.
set -u
cd "$(dirname "$0")/.." || exit 1
. recipes/packages.sh
# shellcheck disable=SC2086
need_packages $build_packages $tidy_packages || exit 1

sources() { grep -E '^(lib|formats|cache|tools)/.*\.cpp$' | while read -r file; do [ ! -e "$file" ] || echo "$file"; done; }
case ${1-} in
  --all) files=$(git ls-files | sources) ;;
  --since) files=$(git diff --name-only "${2:?}" | sources) ;;
  '') files=$(git diff --name-only "$(git merge-base HEAD origin/main 2>/dev/null || echo HEAD)" | sources) ;;
  *) files=$* ;;
esac
[ -n "$files" ] || { echo "no changed files"; exit 0; }

# shellcheck disable=SC2046
cmake -S . -B build/tidy -G Ninja $(launcher) -DQWB_TESTS=OFF -DCMAKE_CXX_COMPILER=clang++ >/dev/null || exit 1
echo "$files" | tr ' ' '\n' | nice xargs -P "$(nproc)" -n 1 clang-tidy-14 -p build/tidy --quiet
