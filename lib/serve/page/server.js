// What the page asks of the server.

const kKey = "qwb-key";

// A key may come in the address, behind #, where it is sent to nobody; it is kept for this tab alone.
export function takeKeyFromAddress() {
  const values = new URLSearchParams(location.hash.slice(1));
  if (!values.has("key")) return;
  sessionStorage.setItem(kKey, values.get("key"));
  values.delete("key");
  history.replaceState(null, "", values.size ? "#" + values : location.pathname);
}

export function useKey(key) {
  sessionStorage.setItem(kKey, key);
}

export function usesKey() {
  return sessionStorage.getItem(kKey) !== null;
}

function headers() {
  const key = sessionStorage.getItem(kKey);
  const all = { "Content-Type": "application/json" };
  if (key) all.Authorization = "Bearer " + key;
  return all;
}

export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function checked(answer) {
  if (answer.ok) return answer;
  let message = "the server answered " + answer.status;
  try {
    message = (await answer.json()).error.message;
  } catch {
    // It was no JSON; the status has to do.
  }
  throw new ServerError(answer.status, message);
}

export async function getVersions() {
  const answer = await checked(await fetch("/qwb/v1/versions", { headers: headers() }));
  return answer.json();
}

export async function stopAnswers(id, column) {
  const body = column === undefined ? { id } : { id, column };
  const answer = await fetch("/qwb/v1/compare/stop",
    { method: "POST", headers: headers(), body: JSON.stringify(body) });
  return answer.ok;
}

// The data of complete events in `text`, and what is left of an incomplete one.
export function splitEvents(text) {
  const parts = text.split("\n\n");
  const rest = parts.pop();
  const data = [];
  for (const part of parts) {
    const lines = part.split("\n").filter((line) => line.startsWith("data:"));
    if (lines.length) data.push(lines.map((line) => line.slice(5).trimStart()).join("\n"));
  }
  return { data, rest };
}

// Calls `take` with every event of a comparison. Throws if it ends before its end.
export async function compare(request, signal, take) {
  const answer = await checked(await fetch("/qwb/v1/compare",
    { method: "POST", headers: headers(), body: JSON.stringify(request), signal }));
  const reader = answer.body.getReader();
  const decoder = new TextDecoder();
  let rest = "", complete = false;
  for (;;) {
    const { done, value } = await reader.read();
    const split = splitEvents(rest + (done ? decoder.decode() : decoder.decode(value, { stream: true })));
    rest = split.rest;
    for (const data of split.data) {
      if (data === "[DONE]") complete = true;
      else take(JSON.parse(data));
    }
    if (done) break;
  }
  if (!complete) throw new Error("the stream broke off");
}
