#!/bin/sh
# Checks the energy counters of this machine: runs qwb-eval on a model and tests what must hold of real ones.
#   sh tests/bench/energy_check.sh BIN_FOLDER MODEL [SECONDS]
# LOAD: a command that keeps a GPU busy meanwhile (an idle card's two ways of counting may differ widely).
# METER: passed as --meter. Prints every device with its joules, watts and step; exits 1 if something is wrong:
#   - a figure that is measured and has no joules above zero
#   - NVML's counter and its integrated power differ by more than 5 % under LOAD (told, not failed, without)
#   - processor and GPU counters that give more than 5 kW or step more slowly than every second
#   - net joules above gross
set -u
bin=${1:?BIN_FOLDER}; model=${2:?MODEL}; seconds=${3:-10}
record=$(mktemp); load=
clean() {
  [ -n "$load" ] && kill "$load" 2>/dev/null
  rm -f "$record"
}
trap clean EXIT
trap 'exit 130' INT TERM
if [ -n "${LOAD:-}" ]; then
  sh -c "exec $LOAD" >/dev/null 2>&1 &
  load=$!
  sleep 3
fi
"$bin/qwb-eval" "$model" --speed --pp 128 --tg 32 --repetitions 2 --energy --energy-seconds "$seconds" \
  --idle "$seconds" ${METER:+--meter "$METER"} --fresh --json >"$record" || exit 1
LOADED=${LOAD:+yes} python3 - "$record" <<'PYTHON'
import json, os, sys
energy = json.load(open(sys.argv[1]))["energy"]
loaded = bool(os.environ.get("LOADED"))
wrong = []
for c in energy["counters"]:
    print(f'{c["device"]}: {c["method"]} steps {c["step_joules"]:.4g} J every {1000 * c["step_seconds"]:.3g} ms')
    if c["method"] != "external-meter" and c["step_seconds"] > 1:
        wrong.append(f'{c["device"]} steps too slowly')
for w in energy["windows"]:
    name = f'{w["work"]} ({w["tokens"]} tokens)'
    for f in w["parts"]:
        joules, net, ratio = f["joules"], f["net_joules"], f["power_ratio"]
        text = f'{name}: {f["device"]}: {f["method"]}, {f["quality"]}: {joules} J, net {net} J, {f["watts"]} W'
        print(text + (f', power/counter {ratio:.4f}' if ratio else ''))
        if not joules or joules <= 0 or f["watts"] > 5000:
            wrong.append(f'{name}: {f["device"]}: {joules} J at {f["watts"]} W')
        if net is not None and net > joules:
            wrong.append(f'{name}: {f["device"]}: net above gross')
        if ratio and abs(ratio - 1) > 0.05:
            (wrong if loaded else []).append(f'{name}: {f["device"]}: power/counter {ratio:.4f}')
            print(f'  differ by {100 * (ratio - 1):+.1f} %' + ('' if loaded else ' (no LOAD: told only)'))
for reason in energy["reasons"]:
    print("reason:", reason)
print("idle:", energy["idle"])
for key in ("joules_per_prompt_token", "joules_per_generated_token", "joules_per_request"):
    print(f'{key}: {energy[key]}')
print("total:", energy["method"], energy["quality"])
for text in wrong:
    print("WRONG:", text)
sys.exit(1 if wrong else 0)
PYTHON
