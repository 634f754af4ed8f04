// Records as files.
import { alongText, answerFacts, departureText, selfCheckText, versionFacts } from "/page/facts.js";
import { setsOf, summaryMarkdown } from "/page/batch.js";
import { textOf } from "/page/record.js";

export function save(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

export function jsonOf(record) {
  return JSON.stringify(record, null, 1) + "\n";
}

// A block that no text inside can end.
function fenced(text) {
  let fence = "```";
  while (text.includes(fence)) fence += "`";
  return fence + "\n" + text + (text.endsWith("\n") ? "" : "\n") + fence + "\n";
}

function items(facts) {
  return facts.map(([name, value]) => "- " + (name ? name + ": " : "") + value.replaceAll("\n", " ") + "\n").join("");
}

export function markdownOf(record) {
  let text = "# Versions side by side\n\n" + record.created + ", base: " + record.base + "\n";
  for (const version of record.versions)
    text += "\n## " + version.name + "\n\n" + items(versionFacts(version, record.base));
  for (const turns of setsOf(record.turns))
    text += "\n## A set of " + turns.length + " prompts\n\n" + summaryMarkdown(turns);
  record.turns.forEach((turn, index) => {
    const base = turn.base === null ? record.base : turn.columns[turn.base].model;
    text += "\n## Prompt " + (index + 1) + "\n\n" + fenced(turn.prompt);
    if (turn.system) text += "\nSystem prompt:\n\n" + fenced(turn.system);
    if (turn.self_check) text += "\n" + selfCheckText(turn.self_check, base) + "\n";
    if (turn.vote) text += "\nVote: " + JSON.stringify(turn.vote) + "\n";
    for (const column of turn.columns) {
      text += "\n### " + column.model + "\n\n";
      text += column.error ? "Error: " + column.error + "\n" : fenced(textOf(column)) + "\n" + items(answerFacts(column, turn.mode));
      if (column.departure) text += "\n" + departureText(column.departure, base, column.model) + "\n";
      if (column.along) text += "\n" + alongText(column.along, base) + "\n";
    }
  });
  return text;
}
