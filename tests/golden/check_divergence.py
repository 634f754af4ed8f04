"""qwb-eval's divergence between two models against transformers in f64 on its own f32 logits.

usage: check_divergence.py QWB_EVAL BASELINE OTHER TEXT [CONTEXT [WINDOWS]]
BASELINE and OTHER are folders that transformers loads (OTHER: the same model with its weights rounded, say). Prints every statistic
and exits 1 if one is off by more than 1e-5, or 5e-5 of its size: the logits themselves are f32 of two implementations. (The
statistics alone, on the same logits, agree to 1e-5 of their size: make_divergence.py and its test.)
"""
import json
import subprocess
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    program, baseline, other, text = sys.argv[1:5]
    context = int(sys.argv[5]) if len(sys.argv) > 5 else 256
    windows = int(sys.argv[6]) if len(sys.argv) > 6 else 4
    torch.set_num_threads(2)
    ids = AutoTokenizer.from_pretrained(baseline)(open(text, encoding="utf-8").read()[:200000], return_tensors="pt").input_ids
    models = [AutoModelForCausalLM.from_pretrained(m, dtype=torch.float32).eval() for m in (baseline, other)]
    kl, change, same, losses = [], [], [], [[], []]
    with torch.no_grad():
        for i in range(windows):
            x = ids[:, i * context:(i + 1) * context]
            p, q = (torch.log_softmax(m(x).logits[0, :-1].double(), -1) for m in models)
            target = x[0, 1:, None]
            kl.append((p.exp() * (p - q)).sum(-1))
            same.append(p.argmax(-1) == q.argmax(-1))
            change.append((q.gather(1, target).exp() - p.gather(1, target).exp())[:, 0])
            losses[0].append(-p.gather(1, target)[:, 0])
            losses[1].append(-q.gather(1, target)[:, 0])
    kl, change, same = torch.cat(kl), torch.cat(change), torch.cat(same).double()
    a, b = torch.cat(losses[0]), torch.cat(losses[1])
    out = subprocess.run([program, other, "--baseline", baseline, "--kl", "--text", text, "--context", str(context), "--windows", str(windows),
                          "--json", "--fresh", "-q"], check=True, capture_output=True, text=True).stdout
    d = json.loads(out)["divergence"]
    fractions = {"min": 0, "p1": 0.01, "p5": 0.05, "p10": 0.1, "p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999, "max": 1}
    rows = [("mean KL", kl.mean(), d["mean_kl"]["value"]), ("same top", same.mean(), d["same_top"]["value"]),
            ("mean change", change.mean(), d["mean_probability_change"]["value"]),
            ("RMS change", (change**2).mean().sqrt(), d["rms_probability_change"]["value"]),
            ("log ratio", (b - a).mean(), d["log_ratio"]["value"]), ("correlation", torch.corrcoef(torch.stack([a, b]))[0, 1], d["correlation"])]
    for name, fraction in fractions.items():
        rows.append((f"KL {name}", torch.quantile(kl, fraction), d["kl_quantiles"][name]))
        rows.append((f"change {name}", torch.quantile(change, fraction), d["probability_change_quantiles"][name]))
    failed = False
    for name, theirs, mine in rows:
        off = abs(mine - theirs.item())
        bad = off > max(5e-5 * abs(theirs.item()), 1e-5)
        failed |= bad
        print(f"{name:16} theirs {theirs.item():+.9e}  ours {mine:+.9e}  off {off:.1e}{'  BAD' if bad else ''}")
    sys.exit(failed)


main()
