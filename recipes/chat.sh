#!/bin/sh
# One page with the demo llama as it is and in three quantized versions: one prompt to all of them,
# answers, departures and joules side by side.
# Usage: sh recipes/chat.sh [OPTION...]   (Debian 12, Ubuntu 24.04; as root or with sudo for the packages)
#   options go to qwb-serve, say --port 9000; Ctrl-C ends it
set -eu
cd "$(dirname "$0")/.."
. recipes/packages.sh

# shellcheck disable=SC2086
need_packages $build_packages
# shellcheck disable=SC2046
cmake -S . -B build -G Ninja $(launcher) -DQWB_TESTS=OFF -DQWB_UNITY=all >/dev/null
cmake --build build --target qwb-quantize qwb-eval qwb-serve

# Artifacts in the cache are not made again.
quantize() {
  build/bin/qwb-quantize --model recipes/demo/llama "$@"
}
nf4=$(quantize --method nf4)
gptq4=$(quantize --method gptq --bits 4 --group-size 128 --calib demo --samples 128)
gptq3=$(quantize --method gptq --bits 3 --group-size 128 --calib demo --samples 128)

# What the page tells of every version beside its answers; some seconds, and nothing the next time.
build/bin/qwb-eval recipes/demo/llama "$nf4" "$gptq4" "$gptq3" --ppl --kl -q

exec build/bin/qwb-serve full=recipes/demo/llama "nf4=$nf4" "gptq-4=$gptq4" "gptq-3=$gptq3" "$@"
