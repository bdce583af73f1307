// Makes elements, and text for people. Data becomes text nodes and attributes only, never HTML; and
// what others wrote in it is made visible, as visible.rs does elsewhere.

const SVG = 'http://www.w3.org/2000/svg';

/** Controls but line breaks and tabs, marks of direction, letters without a shape. */
const HIDDEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb]|[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]/g;
/** Of the characters in two halves, those that are not seen. */
const HIDDEN_PAIR = /^(?:[\u{13430}-\u{1345f}\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]|[\ud800-\udfff])$/u;

/** A text that hides nothing and changes no order: what would is written as the escape that JSON has. */
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
    node.append(...those(child).map((part) => (part instanceof Node ? part : visible(part))));
  }
  return node;
}

/** An element: el('td', { class: 'num' }, '5'). */
export const el = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);

/** Those of them that are there: for replaceChildren, which would write "null". */
export const those = (...nodes) => nodes.filter((node) => node !== undefined && node !== null && node !== false);

/** An element of a drawing. */
export const svg = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** Sets a text, if it is another one. */
export function say(id, text) {
  write(byId(id), text);
}

/** The same for an element that is at hand. */
export function write(node, text) {
  const shown = visible(text);
  if (node.textContent !== shown) node.textContent = shown;
}

/**
 * Makes the children of `parent` those that `items` stand for, in order. Those that are there
 * stay, so that focus, selection and scrolling stay, too: `key` names an item, `make` makes its
 * element, `update` shows it.
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

/** A word in a colour of its own. */
export const badge = (word) => el('span', { class: `badge ${word.replace(/[^a-z-]/g, '')}` }, word);

/** Changes a badge's word. */
export function rebadge(node, word) {
  if (node.textContent === word) return;
  node.className = `badge ${word.replace(/[^a-z-]/g, '')}`;
  node.textContent = word;
}

const thousands = new Intl.NumberFormat('en');

/** 1234567 is 1,234,567. */
export const count = (number) => thousands.format(number ?? 0);

/** A number a second, as short as it means something. */
export function rate(number) {
  if (number >= 100) return count(Math.round(number));
  if (number >= 10 || number === 0) return number.toFixed(0);
  return number.toFixed(1);
}

/** A span in seconds: 0.0021 is 2.1 ms, 3700 is 1 h 1 min. */
export function span(seconds) {
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

/** Bytes: 1536 is 1.5 KB. */
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

/** A moment as the server writes it, in seconds, to the microsecond: a Date knows milliseconds only. */
const secondsOf = (text) => Date.parse(text) / 1000 + Number(/\.\d{3}(\d{3})/.exec(text)?.[1] ?? 0) / 1e6;

/** Seconds between two moments as the server writes them. */
export const between = (from, to) => (from && to ? Math.max(0, secondsOf(to) - secondsOf(from)) : undefined);

/** How long ago, by the server's clock. */
export function ago(then, now) {
  const seconds = between(then, now);
  if (seconds === undefined) return '';
  if (seconds < 1) return 'just now';
  return seconds < 10 ? `${Math.floor(seconds)} s ago` : `${span(Math.floor(seconds))} ago`;
}

/** A moment in local time. */
export const moment = (text) =>
  text ? new Date(text).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'medium' }) : '';

/** The time of day. */
export const clock = (text) => new Date(text).toLocaleTimeString('en-GB', { hour12: false });

/** Tells something for a few seconds. */
export function toast(text, kind = 'good') {
  const note = el('p', { class: `toast ${kind}` }, text);
  byId('toasts').append(note);
  setTimeout(() => note.remove(), 6000);
}
