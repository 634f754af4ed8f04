"""Divergence statistics in f64: tests/golden/divergence/.

usage: make_divergence.py   (run anywhere; needs numpy)
Synthetic logits of two models on 4 windows of 24 scored tokens, vocabulary 61 (odd, so that vector tails are used): base and
other as f32 little-endian [96, 61] in logits.bin, one after the other, then the targets as int32; reference.json has what an f64
implementation makes of them.
"""
import json
from pathlib import Path

import numpy as np

WINDOWS, TOKENS, VOCABULARY = 4, 24, 61


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def main():
    rng = np.random.default_rng(7)
    rows = WINDOWS * TOKENS
    base = (3 * rng.standard_normal((rows, VOCABULARY)) + 5).astype(np.float32)
    noise = np.where(np.arange(rows) % 3 == 0, 1e-3, 0.3)[:, None]  # a third of the rows all but equal
    other = (base + noise * rng.standard_normal((rows, VOCABULARY)) - 11).astype(np.float32)
    targets = rng.integers(0, VOCABULARY, rows).astype(np.int32)
    p, q = log_softmax(base), log_softmax(other)
    kl = (np.exp(p) * (p - q)).sum(axis=1)
    at = np.arange(rows), targets
    change = np.exp(q[at]) - np.exp(p[at])
    fractions = [0, 0.01, 0.05, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 1]
    reference = {
        "windows": WINDOWS, "tokens": TOKENS, "vocabulary": VOCABULARY,
        "kl": kl.tolist(), "base_loss": (-p[at]).tolist(), "other_loss": (-q[at]).tolist(),
        "mean_kl": kl.mean(), "kl_quantiles": np.quantile(kl, fractions).tolist(),
        "same_top": float((base.argmax(1) == other.argmax(1)).mean()),
        "mean_probability": change.mean(), "rms_probability": float(np.sqrt((change**2).mean())),
        "probability_quantiles": np.quantile(change, fractions).tolist(),
        "log_ratio": float((p[at] - q[at]).mean()), "correlation": float(np.corrcoef(p[at], q[at])[0, 1]),
    }
    folder = Path(__file__).resolve().parent / "divergence"
    folder.mkdir(exist_ok=True)
    (folder / "logits.bin").write_bytes(base.astype("<f4").tobytes() + other.astype("<f4").tobytes() + targets.astype("<i4").tobytes())
    (folder / "reference.json").write_text(json.dumps(reference, indent=1) + "\n")


main()
