// Creates elements and formats values. Data is inserted as text nodes and attributes only, never as HTML, and
// invisible characters are escaped, as in escape.rs.

const SVG = 'http://www.w3.org/2000/svg';

/** Control characters except line breaks and tabs, direction marks, and letters without a glyph. */
const HIDDEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb]|[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]/g;
/** Of the surrogate pairs, those that are invisible. */
const HIDDEN_PAIR = /^(?:[\u{13430}-\u{1345f}\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]|[\ud800-\udfff])$/u;

/** Escapes the characters of a text that would hide or reorder parts of it, in the notation of JSON. */
export const visible = (text) =>
  String(text).replace(HIDDEN, (found) =>
    found >= '\ud800' && found < '\ue000' && !HIDDEN_PAIR.test(found)
      ? found
      : [...Array(found.length).keys()].map((at) => `\\u${found.charCodeAt(at).toString(16).padStart(4, '0')}`).join(''),
  );

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name.startsWith('aria-')) node.setAttribute(name, String(value));
    else if (value === false) continue;
    else if (name === 'title') node.setAttribute(name, visible(value));
    else node.setAttribute(name, value === true ? '' : String(value));
  }
  for (const child of children.flat()) {
    node.append(...present(child).map((part) => (part instanceof Node ? part : visible(part))));
  }
  return node;
}

/** An element: el('td', { class: 'num' }, '5'). */
export const el = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);

/** Filters out missing nodes, which replaceChildren would insert as the text "null". */
export const present = (...nodes) => nodes.filter((node) => node !== undefined && node !== null && node !== false);

/** An SVG element. */
export const svg = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** Sets the text of the element with this id, if it differs. */
export function setText(id, text) {
  setNodeText(byId(id), text);
}

/** Sets the text of an element, if it differs. */
export function setNodeText(node, text) {
  const shown = visible(text);
  if (node.textContent !== shown) node.textContent = shown;
}

/**
 * Updates the children of `parent` to represent `items`, in order. Existing elements are reused, which keeps focus,
 * selection and scroll position. `key` identifies an item, `make` creates its element, `update` updates it.
 */
export function list(parent, items, key, make, update) {
  const known = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let node = known.get(name);
    if (node) known.delete(name);
    else {
      node = make(item);
      node.dataset.key = name;
    }
    update(node, item);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  for (const node of known.values()) node.remove();
}

/** A word with a colour of its own, such as a status. */
export const badge = (word) => el('span', { class: `badge ${word.replace(/[^a-z-]/g, '')}` }, word);

/** Changes the word of a badge. */
export function rebadge(node, word) {
  if (node.textContent === word) return;
  node.className = `badge ${word.replace(/[^a-z-]/g, '')}`;
  node.textContent = word;
}

const thousands = new Intl.NumberFormat('en');

/** Formats a number: 1234567 is 1,234,567. */
export const count = (number) => thousands.format(number ?? 0);

/** Formats a rate with few digits. */
export function rate(number) {
  if (number >= 100) return count(Math.round(number));
  if (number >= 10 || number === 0) return number.toFixed(0);
  return number.toFixed(1);
}

/** Formats a duration in seconds: 0.0021 is 2.1 ms, 3700 is 1 h 1 min. */
export function formatDuration(seconds) {
  if (seconds === undefined || seconds === null || Number.isNaN(seconds)) return '';
  if (seconds < 0.001) return `${Math.max(0, Math.round(seconds * 1e6))} µs`;
  if (seconds < 0.01) return `${(seconds * 1000).toFixed(1)} ms`;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return parts(seconds, 60, 'min', 1, 's');
  if (seconds < 86400) return parts(seconds, 3600, 'h', 60, 'min');
  return parts(seconds, 86400, 'd', 3600, 'h');
}

function parts(seconds, large, name, small, rest) {
  const left = Math.floor((seconds % large) / small);
  return `${Math.floor(seconds / large)} ${name}${left ? ` ${left} ${rest}` : ''}`;
}

/** Formats a size in bytes: 1536 is 1.5 KB. */
export function bytes(number) {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let unit = 0;
  let value = number ?? 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit > 0 && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** Converts a timestamp of the server to seconds, with microseconds: a Date has milliseconds only. */
const secondsOf = (text) => Date.parse(text) / 1000 + Number(/\.\d{3}(\d{3})/.exec(text)?.[1] ?? 0) / 1e6;

/** Seconds between two timestamps of the server. */
export const between = (from, to) => (from && to ? Math.max(0, secondsOf(to) - secondsOf(from)) : undefined);

/** Formats how long ago a time is, by the server's clock. */
export function ago(then, now) {
  const seconds = between(then, now);
  if (seconds === undefined) return '';
  if (seconds < 1) return 'just now';
  return seconds < 10 ? `${Math.floor(seconds)} s ago` : `${formatDuration(Math.floor(seconds))} ago`;
}

/** Formats a timestamp in local time. */
export const moment = (text) =>
  text ? new Date(text).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'medium' }) : '';

/** Formats the time of day. */
export const clock = (text) => new Date(text).toLocaleTimeString('en-GB', { hour12: false });

/** Shows a message for a few seconds. */
export function toast(text, kind = 'good') {
  const note = el('p', { class: `toast ${kind}` }, text);
  byId('toasts').append(note);
  setTimeout(() => note.remove(), 6000);
}
