// The page: one prompt to several versions, their answers side by side.
import { compare, getVersions, stopAnswers, takeKeyFromAddress, useKey, usesKey } from "/page/server.js";
import { byId, chosen, nameThePrompt, question, requestFor, showEnergy, showLink, showVersions } from "/page/form.js";
import { newRecord, newTurn, readRecord, takeEvent } from "/page/record.js";
import { ColumnView } from "/page/column.js";
import { jsonOf, markdownOf, save } from "/page/transfer.js";
import { selfCheckText } from "/page/facts.js";
import { setsOf, summaryTable } from "/page/batch.js";
import { hideVote, letterOf, shuffled, vote } from "/page/blind.js";
import { el } from "/page/text.js";

let record = null;
let views = new Map();  // by version
let run = null;  // {id, turn, abort, stopped}: the comparison that goes on

function say(text) {
  byId("status").textContent = text;
}

function complain(text) {
  byId("problem").hidden = !text;
  byId("problem").textContent = text ?? "";
}

function refresh() {
  const ready = record !== null && !run && !record.imported, turns = record ? record.turns.length : 0;
  byId("send").disabled = byId("run-batch").disabled = !ready || !chosen().length;
  byId("again").disabled = !ready || !turns;
  byId("fresh").disabled = !!run || !turns;
  byId("export-json").disabled = byId("export-markdown").disabled = !!run || !turns;
  byId("import").disabled = !!run;
  byId("stop").disabled = !run;
  showChosen();
  byId("legend").hidden = !(record && record.turns.some((turn) => turn.columns.some((column) => column.along)));
}

// --- columns

// What a version is can be read before anything is asked.
function showChosen() {
  if (!record || record.imported) return;
  const names = chosen();
  for (const { name } of record.versions) {
    if (names.includes(name)) viewOf(name);
    const view = views.get(name);
    if (view) view.element.hidden = !names.includes(name) && !view.answers.length;
  }
}

function viewOf(name) {
  let view = views.get(name);
  if (view) return view;
  const version = record.versions.find((one) => one.name === name);
  view = new ColumnView(version, views.size, record.base, () => stopColumn(name));
  views.set(name, view);
  byId("columns").append(view.element);
  return view;
}

function draw() {
  views = new Map();
  byId("columns").replaceChildren();
  for (const turn of record.turns) addTurn(turn);
  showSummary();
  refresh();
}

function baseOf(turn) {
  return turn.base === null ? record.base : turn.columns[turn.base].model;
}

function addTurn(turn) {
  return turn.columns.map((column) => viewOf(column.model).add(turn, column, baseOf(turn)));
}

// Of the last set of prompts.
function showSummary() {
  const turns = setsOf(record.turns).at(-1);
  byId("summary").hidden = !turns;
  byId("summary").replaceChildren(...(turns ? [el("h2", {}, "Summary"), summaryTable(turns)] : []));
}

// --- asking

// Draws what came, once a frame; a page in the background has no frames.
function drawLater(state) {
  if (state.drawing) return;
  state.drawing = true;
  const now = () => {
    state.drawing = false;
    for (const view of state.answers) view.append();
  };
  if (document.hidden) setTimeout(now, 100);
  else requestAnimationFrame(now);
}

function took(state, event) {
  const column = takeEvent(state.turn, event);
  const view = column && state.answers[event.column], name = column && viewOf(column.model).name;
  if (event.type === "start") {
    state.id = event.id;
    for (const answer of state.answers) answer.base = baseOf(state.turn);
  }
  if (event.type === "error" && !column) throw new Error(event.error.message);
  if (event.type === "self_check") state.check = selfCheckText(event, baseOf(state.turn));
  if (!column) return;
  if (event.type === "turn") {
    viewOf(column.model).work(true);
    say(name + " answers");
  } else if (event.type === "text") {
    drawLater(state);
  } else {
    view.append();
    view.finish(state.blind);
  }
  if (event.type === "finish" || event.type === "error") {
    viewOf(column.model).work(false);
    say(name + ": " + (event.type === "error" ? "error" : event.usage.completion_tokens + " tokens, " + event.finish));
  }
}

// One question to all chosen versions. False: it broke off or was stopped. `set`: the number of the
// set of prompts that it belongs to, each asked anew.
async function ask(prompt, names, set) {
  const turn = newTurn(question(prompt, set !== undefined), names);
  if (set !== undefined) turn.set = set;
  const request = requestFor(turn, record);
  const blind = byId("blind").checked;
  const state = { turn, abort: new AbortController(), stopped: false, blind, answers: addTurn(turn) };
  if (blind) disguise(turn);
  run = state;
  record.turns.push(turn);
  complain(null);
  refresh();
  try {
    await compare(request, state.abort.signal, (event) => took(state, event));
    say("Done. " + (state.check ?? ""));
  } catch (error) {
    complain(error.name === "AbortError" ? "Stopped." : error.message);
    if (error.status === 401) byId("key-line").hidden = false;
    for (const column of turn.columns) {
      if (!column.finish && !column.error) column.error = "the answer broke off: " + error.message;
    }
    state.stopped = true;
  }
  for (const view of state.answers) {
    view.append();
    view.finish(blind && !state.stopped);
  }
  for (const column of turn.columns) viewOf(column.model).work(false);
  if (blind && !state.stopped) await vote(turn);
  if (blind) reveal(state);
  run = null;
  refresh();
  return !state.stopped;
}

// In the order of the letters: nobody knows a version by its place.
function disguise(turn) {
  turn.columns.forEach((column, index) => {
    const view = viewOf(column.model);
    view.disguise(letterOf(index));
    byId("columns").append(view.element);
  });
}

function reveal(state) {
  for (const view of views.values()) {
    view.disguise(null);
    byId("columns").append(view.element);
  }
  for (const view of state.answers) view.finish();
}

async function send() {
  const prompt = byId("prompt").value;
  if (run || !record || record.imported || !prompt || !chosen().length) return;
  hideVote();
  if (await ask(prompt, byId("blind").checked ? shuffled(chosen()) : chosen())) byId("prompt").value = "";
  byId("prompt").focus();
}

async function again() {
  const last = record.turns.at(-1);
  if (run || !last) return;
  if (byId("drawing").value === "sampled" && Number(byId("seed").value) === last.settings.seed)
    byId("seed").value = String(last.settings.seed + 1);
  record.turns.pop();
  for (const column of last.columns) viewOf(column.model).removeLast();
  hideVote();
  await ask(last.prompt, last.columns.map((column) => column.model), last.set);
  if (last.set !== undefined) showSummary();
}

async function stopColumn(name) {
  const index = run ? run.turn.columns.findIndex((column) => column.model === name) : -1;
  if (index >= 0 && run.id) await stopAnswers(run.id, index);
}

// What has come stays; a server that does not answer is left alone.
async function stopAll() {
  const state = run;
  if (!state) return;
  if (state.stopped || !state.id || !(await stopAnswers(state.id))) state.abort.abort();
  state.stopped = true;
}

async function runBatch() {
  const prompts = byId("prompts").value.split("\n").filter((line) => line.trim());
  if (run || !prompts.length || !chosen().length) return;
  const names = chosen(), first = record.turns.length, set = setsOf(record.turns).length;
  for (const prompt of prompts) {
    const whole = await ask(prompt, names, set);
    showSummary();
    if (!whole) break;
    say("Prompt " + (record.turns.length - first) + " of " + prompts.length + " is done.");
  }
}

// --- the whole page

function clear() {
  record.turns = [];
  if (record.imported) return void start();
  hideVote();
  draw();
  say("A new conversation.");
  byId("prompt").focus();
}

async function importFile() {
  const file = byId("import").files[0];
  if (!file) return;
  try {
    const read = readRecord(await file.text());
    record = { ...read, imported: true };
    draw();
    complain(null);
    say("Imported: " + read.turns.length + " prompts. A new conversation asks this server again.");
  } catch (error) {
    complain("The file cannot be imported: " + error.message);
  }
  byId("import").value = "";
}

function exported() {
  const { imported, ...plain } = record;
  return plain;
}

async function start() {
  try {
    const told = await getVersions();
    record = newRecord(told);
    const chat = showVersions(told, refresh);
    say("Ready: " + told.versions.length + (told.versions.length === 1 ? " version" : " versions") + ", compared with " + told.base + "." +
      (chat ? "" : " Not every version has a chat template: the prompt is a text that goes on."));
    showEnergy(told.energy);
    byId("report-line").hidden = !told.report || usesKey();  // a link takes no key along
    complain(null);
    draw();
  } catch (error) {
    if (error.status === 401) byId("key-line").hidden = false;
    say("");
    complain(error.message);
  }
}

function onKey(key) {
  if (key.key === "Enter" && key.ctrlKey) {
    key.preventDefault();
    send();
  } else if (key.key === "Escape" && run) {
    stopAll();
  } else if (key.altKey && key.key >= "1" && key.key <= "9") {
    const view = [...views.values()][Number(key.key) - 1];
    if (!view) return;
    key.preventDefault();
    view.heading.focus();
    view.heading.scrollIntoView({ block: "nearest" });
  }
}

function listen() {
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  const click = { stop: stopAll, again, fresh: clear, "run-batch": runBatch, link: showLink,
    "export-json": () => save("qwb-compare.json", "application/json", jsonOf(exported())),
    "export-markdown": () => save("qwb-compare.md", "text/markdown", markdownOf(exported())),
    "use-key": () => {
      useKey(byId("key").value);
      byId("key-line").hidden = true;
      start();
    } };
  for (const [id, act] of Object.entries(click)) byId(id).addEventListener("click", act);
  byId("import").addEventListener("change", importFile);
  byId("drawing").addEventListener("change", () => {
    byId("temperature").disabled = byId("top-p").disabled = byId("drawing").value !== "sampled";
  });
  byId("form").addEventListener("change", nameThePrompt);
  document.addEventListener("keydown", onKey);
}

takeKeyFromAddress();
listen();
start();
