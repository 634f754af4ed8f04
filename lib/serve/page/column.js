// A version's column: what it is, its answers, where they leave the base's, and what it thinks of the
// base's own answer.
import { el, number, percent, quoted, shown } from "/page/text.js";
import { alongText, answerFacts, departureText, versionFacts } from "/page/facts.js";

function list(facts) {
  const children = facts.flatMap(([name, value]) => [el("dt", {}, ...shown(name)), el("dd", {}, ...shown(value))]);
  return el("dl", {}, ...children);
}

// One answer. Text is appended as it comes, at most once a frame; marks are made when all is known.
export class AnswerView {
  constructor(turn, column, base) {
    this.turn = turn;
    this.column = column;
    this.base = base;
    this.drawn = 0;  // pieces that stand on the page
    this.tokens = 0;  // that end in them
    this.answer = el("div", { class: "answer" });
    this.notes = el("div");
    this.facts = el("div");
    this.element = el("article", {},
      el("h3", {}, "Prompt"), el("div", { class: "said" }, ...shown(turn.prompt)),
      el("h3", {}, "Answer"), this.answer, this.notes, this.facts);
    this.append();
    this.finish();
  }

  append() {
    for (; this.drawn < this.column.pieces.length; ++this.drawn) {
      const [text, tokens] = this.column.pieces[this.drawn];
      const piece = el("span", { class: "piece" }, ...shown(text));
      piece.first = this.tokens;
      piece.last = this.tokens += tokens.length;
      this.answer.append(piece);
    }
  }

  // What is not the text itself. `hidden`: a blind vote is still to come.
  finish(hidden = false) {
    this.notes.replaceChildren();
    this.facts.replaceChildren();
    if (this.column.error) this.notes.append(el("p", { class: "problem" }, "Error: ", ...shown(this.column.error)));
    if (hidden) return;
    this.mark();
    const facts = answerFacts(this.column, this.turn.mode);
    if (facts.length) this.facts.append(list(facts));
    if (this.column.along) this.notes.append(...alongNodes(this.column.along, this.base, this.column.model));
  }

  mark() {
    const event = this.column.departure;
    if (!event) return;
    const text = departureText(event, this.base, this.column.model);
    this.notes.append(el("p", { class: "departure" }, ...shown(text)));
    const index = event.departure ? event.departure.index : Infinity;
    for (const piece of this.answer.querySelectorAll(".piece")) {
      piece.classList.toggle("departs", piece.first <= index && index < piece.last);
      piece.classList.toggle("after", piece.first > index);
      if (piece.classList.contains("departs")) {
        piece.tabIndex = 0;
        piece.setAttribute("role", "note");
        piece.setAttribute("aria-label", piece.textContent + ": here it departs from " + this.base);
        piece.title = text;
      }
    }
    // It ended where the base went on: the token that departs has no text.
    if (index >= this.tokens && event.departure && !this.answer.querySelector(".departs"))
      this.answer.append(el("span", { class: "departs", title: text }, "⏹"));
  }
}

function levelOf(kl) {
  return kl < 0.01 ? 0 : kl < 0.1 ? 1 : kl < 0.5 ? 2 : kl < 1 ? 3 : 4;
}

function toldOf(position, index, name) {
  const rows = position.top.map((one, rank) => el("tr", {},
    el("td", {}, String(rank + 1) + ". ", quoted(one.text)), el("td", {}, percent(one.probability))));
  return [
    el("p", {}, "Token " + (index + 1) + " ", quoted(position.text), ": KL " + number(position.kl) + " nats; the base gave it " +
      percent(position.base_probability) + ", " + name + " " + percent(position.probability) + ", rank " + position.rank),
    el("table", {}, el("caption", { class: "hint" }, "likeliest there by " + name), el("tbody", {}, ...rows))];
}

// The base's answer as a version sees it. One stop of the Tab key; the arrows go from token to token.
function alongNodes(event, base, name) {
  const summary = el("p", {}, ...shown(alongText(event, base)));
  if (!event.positions) return [summary];
  const told = el("div", { class: "told hint" }, "Point at a token, or go to one by the arrow keys.");
  const tokens = event.positions.map((position, index) => el("span", {
    class: "token kl" + levelOf(position.kl) + (position.same_top ? "" : " differs"),
    role: "button", tabindex: index === 0 ? "0" : "-1",
    "aria-label": "token " + (index + 1) + " " + JSON.stringify(position.text) + ", KL " + number(position.kl) },
    ...shown(position.text === "\n" ? "↵\n" : position.text)));
  const tell = (index) => told.replaceChildren(...toldOf(event.positions[index], index, name));
  const go = (index) => {
    for (const token of tokens) token.tabIndex = -1;
    tokens[index].tabIndex = 0;
    tokens[index].focus();
  };
  tokens.forEach((token, index) => {
    token.addEventListener("mouseenter", () => tell(index));
    token.addEventListener("focus", () => tell(index));
    token.addEventListener("click", () => go(index));
    token.addEventListener("keydown", (key) => {
      const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: tokens.length - 1 }[key.key];
      if (to === undefined || to < 0 || to >= tokens.length) return;
      key.preventDefault();
      go(to);
    });
  });
  const box = el("div", { class: "along", role: "group", "aria-label": "The answer of " + base + " as " + name + " sees it" }, ...tokens);
  return [summary, el("details", {}, el("summary", {}, "token by token"), box, told)];
}

export class ColumnView {
  // `stop`: called by the column's own button.
  constructor(version, index, base, stop) {
    this.version = version;
    this.answers = [];
    this.name = version.name;
    this.heading = el("h2", { tabindex: "-1", id: "column-" + index }, ...shown(version.name));
    this.badge = version.name === base ? el("span", { class: "badge" }, "base") : null;
    this.stopButton = el("button", { type: "button", disabled: true, onclick: stop }, "Stop");
    this.wideButton = el("button", { type: "button", "aria-pressed": "false", onclick: () => this.widen() }, "Widen");
    this.facts = el("details", {}, el("summary", {}, "This version"), list(versionFacts(version, base)));
    this.body = el("div");
    this.element = el("section", { class: "column", "aria-labelledby": "column-" + index },
      el("header", {}, this.heading, this.badge, this.wideButton, this.stopButton), this.facts, this.body);
    this.label();
  }

  label() {
    this.stopButton.setAttribute("aria-label", "Stop " + this.name);
    this.wideButton.setAttribute("aria-label", "Widen " + this.name);
  }

  // Under another name, and without what would give it away: facts and earlier answers.
  disguise(name) {
    this.name = name ?? this.version.name;
    this.heading.replaceChildren(...shown(this.name));
    this.facts.hidden = name !== null;
    for (const view of this.answers.slice(0, -1)) view.element.hidden = name !== null;
    if (this.badge) this.badge.hidden = name !== null;
    this.label();
  }

  widen() {
    const wide = this.element.classList.toggle("wide-one");
    this.wideButton.setAttribute("aria-pressed", String(wide));
  }

  add(turn, column, base) {
    const view = new AnswerView(turn, column, base);
    this.answers.push(view);
    this.body.append(view.element);
    return view;
  }

  removeLast() {
    this.answers.pop()?.element.remove();
  }

  work(on) {
    this.element.classList.toggle("working", on);
    this.stopButton.disabled = !on;
  }
}
