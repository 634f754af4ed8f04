#!/bin/sh
# Throughput of qwb-pull against curl's own, and peak memory: one large file from the fake Hub over loopback, written to a
# folder in memory (the disk would decide otherwise), in turns, in one run. qwb-pull hashes what it gets, curl does not.
# Usage: sh tests/bench/pull_bench.sh BUILD_FOLDER [MEGABYTES] [ROUNDS]
set -eu
build=$1 megabytes=${2:-1024} rounds=${3:-5}
scratch=$(mktemp -d "${QWB_BENCH_FOLDER:-/dev/shm}/qwb-pull-XXXXXX")
trap 'exec 3>&-; wait; rm -rf "$scratch"' EXIT
model=$scratch/root/models/org/model
mkdir -p "$model" "$scratch/home"
echo '{}' >"$model/config.json"
head -c "${megabytes}000000" /dev/urandom >"$model/model.safetensors"
export HF_HOME="$scratch/home" HF_HUB_OFFLINE=0 HF_TOKEN= NO_PROXY=127.0.0.1,localhost

mkfifo "$scratch/stop" "$scratch/endpoint"
"$build/tests/fake_hub" "$scratch/root" <"$scratch/stop" >"$scratch/endpoint" &
exec 3>"$scratch/stop"
exec 4<"$scratch/endpoint"
read -r HF_ENDPOINT <&4
export HF_ENDPOINT

now() { date +%s%N; }
rate() { echo "$megabytes $1 $2" | awk '{ printf "%.0f", $1 * 1e9 / ($3 - $2) }'; }

for round in $(seq "$rounds"); do
  begin=$(now)
  curl -sfL -o "$scratch/curl" "$HF_ENDPOINT/org/model/resolve/main/model.safetensors"
  end=$(now)
  by_curl=$(rate "$begin" "$end")
  rm -f "$scratch/curl"
  rm -rf "$scratch/home"
  begin=$(now)
  "$build/bin/qwb-pull" -q org/model --include '*.safetensors' >"$scratch/path"
  end=$(now)
  by_us=$(rate "$begin" "$end")
  cmp -s "$(cat "$scratch/path")/model.safetensors" "$model/model.safetensors" || { echo "wrong bytes"; exit 1; }
  echo "round $round: curl $by_curl MB/s, qwb-pull $by_us MB/s"
  echo "$by_us $by_curl" >>"$scratch/rates"
done
sort -n "$scratch/rates" | awk '{ us[NR] = $1; ratio[NR] = $1 / $2 } END { n = asort_ratio(NR); printf "median ratio %.2f\n", ratio[int((NR + 1) / 2)] }
function asort_ratio(n, i, j, t) { for (i = 1; i <= n; ++i) for (j = i + 1; j <= n; ++j) if (ratio[j] < ratio[i]) { t = ratio[i]; ratio[i] = ratio[j]; ratio[j] = t } return n }'
