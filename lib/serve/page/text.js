// Elements and texts. What people and models write becomes text nodes and nothing else.

export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value === "boolean") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Characters that would move a cursor, or turn the direction of what stands beside them.
const kControl = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/;

function nameOf(character) {
  const code = character.codePointAt(0);
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  return "U+" + code.toString(16).toUpperCase().padStart(4, "0");
}

// The text as nodes, with controls shown by their names.
export function shown(text) {
  const nodes = [];
  for (const part of text.split(new RegExp("(" + kControl.source + ")"))) {
    if (part === "") continue;
    if (part.length === 1 && kControl.test(part)) nodes.push(el("span", { class: "control" }, nameOf(part)));
    else nodes.push(document.createTextNode(part));
  }
  return nodes;
}

// A token on one line, in quotes.
export function quoted(text) {
  const line = JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"');
  return el("span", { class: "quoted" }, "‘", ...shown(line), "’");
}

export function plainQuoted(text) {
  return "‘" + quoted(text).textContent.slice(1, -1) + "’";
}

export function number(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "n/a";
  if (value !== 0 && Math.abs(value) < 0.001) return value.toExponential(1);
  return Number(value.toPrecision(digits)).toLocaleString("en-US", { maximumSignificantDigits: digits });
}

export function percent(value) {
  return (100 * value).toFixed(1) + " %";
}

export function bytes(value) {
  if (value === null || value === undefined) return "n/a";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit + 1 < units.length) {
    value /= 1000;
    ++unit;
  }
  return number(value) + " " + units[unit];
}
