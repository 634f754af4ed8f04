#!/bin/sh
# Builds and runs every test. Usage: sh tests/run.sh [--quick] [--format]
#   --quick   only the tests of the release build, neither sanitizers nor fuzzing
#   --format  also check that clang-format would change nothing
# The last line says "N passed, N failed", summed over all parts; the exit code is 0 only if nothing failed.
set -u
cd "$(dirname "$0")/.." || exit 1
. recipes/packages.sh

quick=no format=no
for argument in "$@"; do
  case $argument in
    --quick) quick=yes ;;
    --format) format=yes ;;
    *) sed -n '2,5s/^# //p' "$0" >&2; exit 2 ;;
  esac
done

passed=0 failed=0
# Tests write thousands of small files, which takes half the time in memory, where that is plenty.
free_kb=$(df -Pk /dev/shm 2>/dev/null | awk 'END { print $4 }')
base=${TMPDIR:-/tmp}
[ ! -w /dev/shm ] || [ "${free_kb:-0}" -lt 4000000 ] || base=/dev/shm
scratch=$(mktemp -d "$base/qwb-tests-XXXXXX") || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
# Nothing of the user's, and no artifact of an earlier run, takes part.
export QWB_CACHE="$scratch/cache" QWB_MODEL= TMPDIR="$scratch"
fuzz_seconds=${QWB_FUZZ_SECONDS:-5}
jobs=$(nproc 2>/dev/null || echo 2)
# Threads that wait for others give their processor away: two tests run at a time. (GCC's OpenMP, LLVM's.)
export GOMP_SPINCOUNT=3000 KMP_BLOCKTIME=0

# part NAME FUNCTION: runs one part and says how long it took.
part() {
  echo "== $1"
  begin=$(date +%s) before=$failed
  "$2"
  echo "== $1: $(($(date +%s) - begin)) s, $((failed - before)) failed"
}

# A step that is no test itself counts only when it fails.
broken() {
  echo "FAILED: $*"
  failed=$((failed + 1))
}

# build FOLDER TARGETS -- CMAKE-OPTIONS...
build() {
  folder=$1 targets=$2
  shift 3
  # shellcheck disable=SC2046
  cmake -S . -B "$folder" -G Ninja $(launcher) "$@" >"$scratch/configure.log" 2>&1 ||
    { cat "$scratch/configure.log"; broken "configuring $folder"; return 1; }
  sed -n 's/^-- \(GPU operations: .*\)/\1/p' "$scratch/configure.log"
  # shellcheck disable=SC2086
  cmake --build "$folder" -j "$jobs" --target $targets >"$scratch/build.log" 2>&1 ||
    { grep -v '^\[' "$scratch/build.log" | head -100; broken "building $folder"; return 1; }
}

# run_ctest FOLDER [OPTIONS...]: adds what ctest counted.
run_ctest() {
  folder=$1
  shift
  ctest --test-dir "$folder" --output-on-failure --no-tests=error -j 2 "$@" >"$scratch/ctest.log" 2>&1 </dev/null
  code=$?
  grep -Ev '^ *([0-9]+/[0-9]+ Test +#|Start +[0-9])|^Test project' "$scratch/ctest.log"
  # "98% tests passed, 2 tests failed out of 100"
  counts=$(sed -n 's/.* tests passed, \([0-9]*\) tests* failed out of \([0-9]*\).*/\1 \2/p' "$scratch/ctest.log" | tail -1)
  if [ -z "$counts" ]; then
    broken "ctest in $folder gave no counts"
    return
  fi
  bad=${counts% *} all=${counts#* }
  skipped=$(grep -c '\*\*\*Skipped' "$scratch/ctest.log")
  failed=$((failed + bad)) passed=$((passed + all - bad - skipped))
  [ "$skipped" = 0 ] || echo "$skipped skipped: this machine lacks what they need"
  [ "$code" = 0 ] || [ "$bad" != 0 ] || broken "ctest in $folder ended with $code"
}

release_tests() {
  build build/test all -- -DCMAKE_BUILD_TYPE=Release -DQWB_WERROR=ON -DQWB_BENCH=ON \
    -DQWB_CUDA_ARCHITECTURES=90-real -DQWB_UNITY=all || return
  run_ctest build/test
}

sanitized_tests() {
  # Not the programs that only start the tools: those are tested as released.
  targets="test_base test_tensor test_codec test_formats test_cache test_exec test_model test_quantize test_tune test_tokenizer test_chat test_evaluate test_report test_jobs test_hub test_serve fuzz"
  build build/checked "$targets" -- -DCMAKE_BUILD_TYPE=RelWithDebInfo '-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g1' -DQWB_UNITY=all \
    -DCMAKE_CXX_COMPILER=clang++ -DQWB_FUZZ=ON -DQWB_SANITIZE=address,undefined || return
  # The leak check needs ptrace, which some containers forbid.
  leaks=1
  build/checked/tests/test_base --gtest_filter=none >"$scratch/probe.log" 2>&1 || leaks=0
  [ "$leaks" = 1 ] || echo "leaks are not looked for: $(head -1 "$scratch/probe.log")"
  ASAN_OPTIONS="detect_leaks=$leaks:detect_stack_use_after_return=1:strict_string_checks=1:allocator_may_return_null=1" \
  LSAN_OPTIONS="suppressions=$PWD/tests/leaks.supp:print_suppressions=0" UBSAN_OPTIONS=print_stacktrace=1 \
    run_ctest build/checked -LE slow -E NOT_BUILT
}

# seed NAME FOLDER: small valid inputs for a fuzz target.
seed() {
  case $1 in
    safetensors_fuzz) cp tests/golden/formats/*.safetensors "$2" ;;
    sentencepiece_fuzz) for file in tests/golden/tokenizer/sentencepiece/*/tokenizer.model; do
        cp "$file" "$2/$(basename "$(dirname "$file")")"
      done ;;
    pickle_fuzz) cp tests/golden/pickle/*.bin "$2" ;;
    gguf_fuzz) cp tests/golden/gguf/tokens-*.gguf "$2" ;;
    qwb_manifest_fuzz) find "$QWB_CACHE/objects" -name qwb.json -exec cp {} "$2" \; ;;
    config_fuzz) for file in tests/golden/model/*/config.json recipes/demo/*/config.json; do
        cp "$file" "$2/$(basename "$(dirname "$file")").json"
      done ;;
  esac
  [ ! -d "tests/fuzz/seeds/$1" ] || cp "tests/fuzz/seeds/$1"/* "$2"
}

# Leaves a log and, if all went well, NAME.done.
fuzz_one() {
  name=$1 corpus=$scratch/corpus/$1
  mkdir -p "$corpus"
  seed "$name" "$corpus" || { echo "no seeds for $name" >"$scratch/$name.log"; return; }
  # A crash leaves its input under build/checked; ASan's own leak check slows libFuzzer down and needs ptrace.
  ASAN_OPTIONS=detect_leaks=0 "build/checked/tests/fuzz/$name" -max_total_time="$fuzz_seconds" -timeout=10 -rss_limit_mb=1024 \
    -max_len=65536 -print_final_stats=1 -artifact_prefix="build/checked/$name-" "$corpus" >"$scratch/$name.log" 2>&1 </dev/null &&
    : >"$scratch/$name.done"
}

# As many targets at a time as there are processors.
fuzz_tests() {
  # Its manifest is a seed.
  build/test/bin/qwb-quantize -q --model recipes/demo/gpt2 --method rtn >/dev/null || broken "quantizing the demo"
  build/test/bin/qwb-quantize -q --model recipes/demo/gpt2 --method nf4 >/dev/null || broken "quantizing the demo"
  started=0
  for source in tests/fuzz/*_fuzz.cpp; do
    fuzz_one "$(basename "$source" .cpp)" &
    started=$((started + 1))
    [ $((started % jobs)) != 0 ] || wait
  done
  wait
  for source in tests/fuzz/*_fuzz.cpp; do
    name=$(basename "$source" .cpp)
    if [ -e "$scratch/$name.done" ]; then
      passed=$((passed + 1))
      echo "$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$scratch/$name.log") inputs"
    else
      tail -60 "$scratch/$name.log"
      broken "$name"
    fi
  done
}

format_check() {
  command -v clang-format-14 >/dev/null 2>&1 || { broken "clang-format-14 is missing"; return; }
  git ls-files '*.cpp' '*.h' '*.cu' '*.cuh' >"$scratch/sources"
  xargs -P "$jobs" -n 16 clang-format-14 --dry-run -Werror <"$scratch/sources" >"$scratch/format.log" 2>&1
  code=$? bad=0
  for file in $(sed -n 's/^\([^: ]*\):[0-9]*:[0-9]*: error: .*/\1/p' "$scratch/format.log" | sort -u); do
    broken "clang-format would change $file"
    bad=$((bad + 1))
  done
  [ "$code" = 0 ] || [ "$bad" != 0 ] || { head -20 "$scratch/format.log"; broken "clang-format ended with $code"; }
  passed=$((passed + $(wc -l <"$scratch/sources") - bad))
}

# clang++ comes without the runtime of libFuzzer on some releases.
fuzz_runtime() {
  echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' >"$scratch/probe.cpp"
  clang++ -fsanitize=fuzzer,address "$scratch/probe.cpp" -o "$scratch/probe" 2>/dev/null && return 0
  major=$(clang++ -dumpversion | cut -d. -f1)
  need_packages "libclang-rt-$major-dev" "libomp-$major-dev"
}

packages="$build_packages $test_packages"
[ $quick = yes ] || packages="$packages $fuzz_packages"
[ $format = no ] || packages="$packages $format_packages"
# shellcheck disable=SC2086
need_packages $packages || echo "trying without them"
# shellcheck disable=SC2046
need_packages $(real_browser_packages) || echo "the page is not tried in a browser"
[ $quick = yes ] || fuzz_runtime || broken "the runtime of libFuzzer"

[ $format = no ] || part "format" format_check
part "release" release_tests
if [ $quick = no ]; then
  part "address and undefined-behaviour sanitizers" sanitized_tests
  part "fuzzing" fuzz_tests
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
