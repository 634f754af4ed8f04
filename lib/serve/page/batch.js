// A set of prompts: what came of it, version by version.
import { el, number, percent, shown } from "/page/text.js";

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? sorted[Math.floor((sorted.length - 1) / 2)] : null;
}

function sum(values) {
  return values.reduce((a, b) => a + b, 0);
}

// Joules of all answers, also of those that were too short for a figure of their own: their windows
// together may be long enough.
function energyOf(columns) {
  const figures = columns.map((column) => column.energy).filter((energy) => energy);
  const joules = figures.map((energy) => energy.joules ?? energy.short ?? null);
  if (figures.length < columns.length || joules.includes(null)) return "n/a";
  if (new Set(figures.map((energy) => energy.method + energy.quality)).size !== 1) return "n/a: different sources";
  const enough = sum(figures.map((energy) => energy.seconds)) >= Math.max(...figures.map((energy) => energy.least_seconds));
  if (!enough) return "n/a: too short";
  return (figures[0].quality === "measured" ? "" : "~") + number(sum(joules)) + " J, " + figures[0].quality + ", " + figures[0].method;
}

export function summaryOf(turns, names) {
  return names.map((name) => {
    const all = turns.flatMap((turn) => turn.columns.filter((column) => column.model === name));
    const columns = all.filter((column) => column.finish);
    const departures = columns.map((column) => column.departure).filter((event) => event && !event.reason);
    const departed = departures.filter((event) => event.departure);
    const along = columns.map((column) => column.along).filter((event) => event && event.positions);
    const tokens = sum(along.map((event) => event.tokens));
    const seconds = sum(columns.map((column) => column.timings.predicted_ms)) / 1000;
    const decoded = sum(columns.map((column) => Math.max(column.usage.completion_tokens - 1, 0)));
    return [name, columns.length + " of " + all.length,
      departures.length ? departed.length + " of " + departures.length : "n/a",
      departed.length ? String(median(departed.map((event) => event.departure.index)) + 1) : "n/a",
      tokens ? percent(sum(along.map((event) => event.same)) / tokens) : "n/a",
      tokens ? number(sum(along.map((event) => event.mean_kl * event.tokens)) / tokens) : "n/a",
      seconds ? number(decoded / seconds) : "n/a", energyOf(columns)];
  });
}

const kHeads = ["version", "answers", "departed", "median token of departure", "same likeliest token", "mean KL", "tokens a second",
  "energy"];

// The turns of every set that was run as one, in their order.
export function setsOf(turns) {
  const sets = new Map();
  for (const turn of turns) {
    if (turn.set !== undefined) sets.set(turn.set, [...(sets.get(turn.set) ?? []), turn]);
  }
  return [...sets.values()];
}

function namesOf(turns) {
  return [...new Set(turns.flatMap((turn) => turn.columns.map((column) => column.model)))];
}

export function summaryMarkdown(turns) {
  const line = (cells) => "| " + cells.map((cell) => cell.replaceAll("|", "\\|").replaceAll("\n", " ")).join(" | ") + " |\n";
  return line(kHeads) + "|" + "---|".repeat(kHeads.length) + "\n" + summaryOf(turns, namesOf(turns)).map(line).join("");
}

export function summaryTable(turns) {
  const rows = summaryOf(turns, namesOf(turns)).map((cells) => el("tr", {}, ...cells.map((cell, index) =>
    index ? el("td", {}, cell) : el("th", { scope: "row" }, ...shown(cell)))));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Summary table" }, el("table", {},
    el("caption", {}, "All " + turns.length + " prompts"),
    el("thead", {}, el("tr", {}, ...kHeads.map((head) => el("th", { scope: "col" }, head)))), el("tbody", {}, ...rows)));
}
