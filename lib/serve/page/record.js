// The record of a session: what the page shows, exports and imports. It holds what the server sent.

export const kSchema = "qwb-compare/1";

export function newRecord(told) {
  return { schema: kSchema, created: new Date().toISOString(), base: told.base, versions: told.versions,
    energy: told.energy, turns: [] };
}

export function newTurn(asked, names) {
  const columns = names.map((model) => ({ model, pieces: [], error: null }));
  return { ...asked, base: null, self_check: null, columns };
}

export function textOf(column) {
  return column.pieces.map(([text]) => text).join("");
}

// Takes an event of the stream into the turn. The column it is about, or null.
export function takeEvent(turn, event) {
  if (event.type === "start") {
    turn.base = event.base;
    for (const told of event.columns) {
      turn.columns[told.column].prompt = told.prompt;
      turn.columns[told.column].settings = told.settings;
    }
    return null;
  }
  if (event.type === "self_check") {
    const { type, column, ...check } = event;
    turn.self_check = check;
    return null;
  }
  if (event.column === undefined || event.column === null) return null;
  const column = turn.columns[event.column];
  if (event.type === "text") column.pieces.push([event.text, event.tokens]);
  else if (event.type === "error") column.error = event.error.message;
  else if (event.type === "finish") {
    for (const name of ["finish", "tokens", "usage", "timings", "kv_bytes"]) column[name] = event[name];
  } else if (event.type === "energy") column.energy = event.energy;
  else if (event.type === "departure" || event.type === "along") {
    const { type, column: index, ...rest } = event;
    column[type] = rest;
  }
  return column;
}

// The conversation so far as a version saw it, with what is asked now.
export function messagesFor(record, model, asked) {
  const messages = [];
  if (asked.system) messages.push({ role: "system", content: asked.system });
  if (!asked.fresh) {
    for (const turn of record.turns) {
      const column = turn.columns.find((one) => one.model === model);
      if (turn.fresh || turn.form !== "chat" || !column || column.error) continue;
      messages.push({ role: "user", content: turn.prompt }, { role: "assistant", content: textOf(column) });
    }
  }
  messages.push({ role: "user", content: asked.prompt });
  return messages;
}

function fail(what) {
  throw new Error("this is no record of this page: " + what);
}

// A record from a file. Throws for what is none: it may come from anybody.
export function readRecord(text) {
  const record = JSON.parse(text);
  if (record === null || typeof record !== "object" || record.schema !== kSchema) fail("its schema is not " + kSchema);
  if (!Array.isArray(record.versions) || !Array.isArray(record.turns)) fail("versions or turns are missing");
  for (const version of record.versions) {
    if (typeof version?.name !== "string") fail("a version has no name");
  }
  for (const turn of record.turns) {
    if (typeof turn?.prompt !== "string" || !Array.isArray(turn.columns)) fail("a turn is incomplete");
    for (const column of turn.columns) {
      const known = record.versions.some((version) => version.name === column?.model);
      if (!known) fail("an answer is of an unknown version");
      const sound = Array.isArray(column.pieces) && column.pieces.every((piece) => Array.isArray(piece) &&
        typeof piece[0] === "string" && Array.isArray(piece[1]));
      if (!sound) fail("the text of an answer is missing");
    }
  }
  return record;
}
