// Facts in words: what a version is, what an answer took, where it departs. No numbers of different
// kinds are mixed: the first departure belongs to the answers, agreement and divergence to the base's
// own answer, perplexity to a text.
import { bytes, number, percent, plainQuoted } from "/page/text.js";

function conditions(result) {
  const parts = [result.protocol, "context " + result.context];
  if (result.stride) parts.push("stride " + result.stride);
  parts.push(result.tokens.toLocaleString("en-US") + " tokens", "text " + result.text_hash.slice(0, 8));
  return parts.join(", ");
}

function withError(value, error) {
  return number(value, 5) + (error === null ? "" : " ± " + number(error, 2));
}

// [[name, value]] of a version.
export function versionFacts(version, base) {
  const facts = [
    ["method", version.method + (version.bits === null ? "" : ", " + number(version.bits) + " bits")],
    ["bits per weight", number(version.bpw)],
    ["size", bytes(version.bytes)],
    ["memory now", bytes(version.memory_bytes) + " of weights, " + bytes(version.kv_bytes_per_token) + " a token"],
    ["context", version.context + " tokens"],
  ];
  const quality = version.quality;
  const perplexity = quality && quality.perplexity, divergence = quality && quality.divergence;
  const missing = "n/a: no kept evaluation";
  facts.push(["perplexity", perplexity ? withError(perplexity.value, perplexity.stderr) + " (" + conditions(perplexity) + ")" : missing]);
  if (version.name === base) return facts;
  const ratio = perplexity && perplexity.ratio !== null ? perplexity : divergence;
  facts.push(["ratio to " + base, ratio && ratio.ratio !== null
    ? withError(ratio.ratio, ratio.ratio_stderr) + " (" + conditions(ratio) + ")" : missing]);
  facts.push(["mean KL", divergence
    ? withError(divergence.mean_kl, divergence.mean_kl_stderr) + ", same top token " + percent(divergence.same_top) +
      " (" + conditions(divergence) + ")" : missing]);
  return facts;
}

function joules(energy, value) {
  return (energy.quality === "measured" ? "" : "~") + number(value) + " J";
}

export function energyFacts(energy) {
  if (!energy) return [];
  const source = [energy.quality, energy.method, energy.device].filter((part) => part).join(", ");
  if (energy.joules === null) return [["energy", "n/a: " + energy.reason]];
  const facts = [["energy", joules(energy, energy.joules) +
    (energy.net_joules === null ? "" : ", " + number(energy.net_joules) + " J net of idle") + " (" + source + ")"]];
  if (energy.remark) facts.push(["", energy.remark]);
  if (!energy.decode) return facts;
  const prefill = energy.prefill, decode = energy.decode;
  facts.push(["prompt", prefill.joules === null ? "n/a: " + prefill.reason : joules(energy, prefill.joules)]);
  facts.push(["per token", decode.joules === null ? "n/a: " + decode.reason
    : joules(energy, decode.joules_per_token) + ", decoding alone"]);
  return facts;
}

const kFinish = { stop: "an end of text", length: "the most tokens", stopped: "stopped" };

// [[name, value]] of a column's answer.
export function answerFacts(column, mode) {
  const facts = [];
  if (column.error) return facts;
  if (column.finish) {
    const t = column.timings, beside = mode === "at_once" ? " (shared machine)" : "";
    facts.push(["tokens", column.usage.completion_tokens + ", ended by " + (kFinish[column.finish] ?? column.finish)]);
    facts.push(["first token", number(t.prompt_ms) + " ms, after " + number(t.queue_ms) + " ms in the queue" + beside]);
    facts.push(["prompt", t.prompt_n + " tokens" + (t.cache_n ? " and " + t.cache_n + " kept" : "") + ", " +
      number(t.prompt_per_second) + " a second" + beside]);
    facts.push(["decoding", number(t.predicted_per_second) + " tokens a second" + beside]);
    facts.push(["keys and values", bytes(column.kv_bytes)]);
  }
  facts.push(...energyFacts(column.energy));
  if (column.settings) facts.push(["settings", settingsText(column.settings)]);
  return facts;
}

export function settingsText(settings) {
  if (settings.temperature === 0) return "greedy" + penalties(settings);
  const parts = ["temperature " + settings.temperature, "seed " + settings.seed];
  if (settings.top_p < 1) parts.push("top p " + settings.top_p);
  if (settings.top_k > 0) parts.push("top k " + settings.top_k);
  if (settings.min_p > 0) parts.push("min p " + settings.min_p);
  return parts.join(", ") + penalties(settings);
}

function penalties(settings) {
  const names = { repetition_penalty: 1, frequency_penalty: 0, presence_penalty: 0 };
  return Object.entries(names).filter(([name, off]) => settings[name] !== off)
    .map(([name]) => ", " + name.replaceAll("_", " ") + " " + settings[name]).join("");
}

function chance(candidate) {
  return candidate.probability === null ? "below " + percent(candidate.below) : percent(candidate.probability);
}

// One line about where a column leaves the base.
export function departureText(event, base, name) {
  if (event.reason) return "Departure from " + base + ": n/a, " + event.reason + ".";
  const d = event.departure;
  if (!d) return "No departure from " + base + " in " + event.equal_tokens + " tokens.";
  return "Departs from " + base + " at token " + (d.index + 1) + ": " +
    plainQuoted(d.base.text) + " became " + plainQuoted(d.column.text) + ". " +
    base + " gave them " + chance(d.base.by_base) + " and " + chance(d.column.by_base) + ", " +
    name + " " + chance(d.base.by_column) + " and " + chance(d.column.by_column) + "." +
    (d.nearly_even ? " Nearly even: rounding of any kind could have turned it." : "");
}

export function alongText(event, base) {
  if (event.reason) return "Along the answer of " + base + ": n/a, " + event.reason + ".";
  return "Along the answer of " + base + ": same likeliest token at " + event.same + " of " + event.tokens +
    " (" + percent(event.agreement) + "), mean KL " + number(event.mean_kl) + " nats.";
}

export function selfCheckText(check, base) {
  if (check.same === null) return "Whether " + base + " agrees with itself was not checked: " + check.reason + ".";
  if (check.same) return base + " gave the same " + check.tokens + " tokens twice: departures are not its own.";
  return base + " departs from itself at token " + (check.tokens + 1) + ": do not blame quantization for departures.";
}
