// A blind vote: on quality, then on energy, then the names.
import { el } from "/page/text.js";
import { energyFacts } from "/page/facts.js";

export function shuffled(values) {
  const result = [...values];
  for (let i = result.length - 1; i > 0; --i) {
    const j = Math.floor(Math.random() * (i + 1));
    [result[i], result[j]] = [result[j], result[i]];
  }
  return result;
}

export function letterOf(index) {
  return "Version " + String.fromCharCode(65 + index);
}

function question(text, choices) {
  return new Promise((resolve) => {
    const buttons = choices.map(([name, value]) => el("button", { type: "button", onclick: () => resolve(value) }, name));
    const box = document.getElementById("vote");
    box.replaceChildren(el("p", {}, text), el("p", { class: "buttons" }, ...buttons));
    box.hidden = false;
    buttons[0].focus();
  });
}

// Asks for both votes. The turn keeps them by the versions' names.
export async function vote(turn) {
  const names = turn.columns.map((column, index) => [letterOf(index), column.model]);
  const quality = await question("Which answer is best?", [...names, ["A tie", "tie"], ["None is good", "none"]]);
  const energy = await question("Which took the most energy?", [...names, ["No idea", "unknown"]]);
  turn.vote = { quality, energy };
  const told = turn.columns.map((column, index) => {
    const facts = energyFacts(column.energy);
    return el("li", {}, letterOf(index) + " was " + column.model + (facts.length ? "; energy: " + facts[0][1] : ""));
  });
  document.getElementById("vote").replaceChildren(el("p", {}, "Best: " + quality + ". Most energy, as guessed: " + energy + "."),
    el("ul", {}, ...told));
}

export function hideVote() {
  const box = document.getElementById("vote");
  box.hidden = true;
  box.replaceChildren();
}
