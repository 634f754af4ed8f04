// The form: what is asked, of which versions and how, and what the server told of itself.
import { messagesFor } from "/page/record.js";
import { el } from "/page/text.js";

export const byId = (id) => document.getElementById(id);

let asked = 0;  // questions so far: whose turn comes first rotates, so that warming up is shared

export function chosen() {
  return [...byId("versions").querySelectorAll("input:checked")].map((box) => box.value);
}

function settings() {
  const sampled = byId("drawing").value === "sampled";
  const all = { temperature: sampled ? Number(byId("temperature").value) : 0, seed: Number(byId("seed").value),
    max_tokens: Number(byId("max-tokens").value) };
  if (sampled) all.top_p = Number(byId("top-p").value);
  return all;
}

export function question(prompt, fresh) {
  return { prompt, system: byId("form").value === "chat" ? byId("system").value : "", form: byId("form").value, fresh,
    mode: byId("mode").value, settings: settings(), first: asked++ };
}

export function requestFor(turn, record) {
  const thinking = byId("thinking").value;
  const columns = turn.columns.map(({ model }) => turn.form === "chat"
    ? { model, messages: messagesFor(record, model, turn) } : { model, prompt: turn.prompt });
  const request = { columns, mode: turn.mode, first: turn.first, along: byId("along").checked,
    self_check: byId("self-check").checked, ...turn.settings };
  if (turn.form === "chat" && thinking) request.chat_template_kwargs = { enable_thinking: thinking === "on" };
  return request;
}

export function showLink() {
  const values = new URLSearchParams({ models: chosen().join(","), prompt: byId("prompt").value });
  byId("link-line").hidden = false;
  byId("link-text").value = location.origin + location.pathname + "#" + values;
  byId("link-text").select();
}

// `changed`: called when other versions are chosen.
export function showVersions(told, changed) {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const names = wanted.has("models") ? wanted.get("models").split(",") : null;
  const boxes = told.versions.map((version) => {
    const on = names ? names.includes(version.name) : true;
    const box = el("input", { type: "checkbox", value: version.name, onchange: changed });
    box.checked = on;
    return el("label", {}, box, " " + version.name + (version.name === told.base ? " (base)" : ""));
  });
  byId("versions").replaceChildren(el("legend", {}, "Versions"), ...boxes);
  if (wanted.has("prompt")) byId("prompt").value = wanted.get("prompt");
  const chat = told.versions.every((version) => version.chat);
  byId("form").value = chat ? "chat" : "text";
  nameThePrompt();
  byId("form").querySelector('[value="chat"]').disabled = !told.versions.some((version) => version.chat);
  return chat;
}

export function nameThePrompt() {
  byId("prompt-label").textContent = byId("form").value === "chat" ? "Prompt" : "Text to continue";
}

export function showEnergy(energy) {
  const note = byId("energy-note");
  if (!energy) note.textContent = "Joules are not measured by this server.";
  else if (energy.measures) {
    note.textContent = "Joules: " + energy.counters.map((one) => one.method + " of " + one.device).join(", ") +
      (energy.idle_watts === null ? "" : "; idle power " + energy.idle_watts.toFixed(1) + " W");
  } else {
    note.textContent = "Joules are estimates (~) here: no counter can be read. " + energy.reasons.join("; ");
  }
}
