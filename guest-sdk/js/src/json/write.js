// Writes a value as JSON. Unlike `JSON.stringify` it loses nothing silently: a value that has no JSON form is an
// error that names its path, big integers are exact, and maps, sets and bytes have a form.

import { inspect } from '../inspect.js';
import { encodeBase64 } from './base64.js';
import { pathText } from './path.js';

/** Maximum nesting: the stack of the sandbox is bounded. */
const DEPTH_MAX = 200;

/** A value that has no JSON form. */
export class NotJson extends TypeError {
  get name() {
    return 'NotJson';
  }
}

/**
 * Returns the JSON of a value; that of `undefined` is `null`.
 *
 * @param {unknown} value
 * @param {string} path how errors name the value, such as "result"
 */
export function toJson(value, path) {
  return write(value, { path, steps: [], parents: [] }, '') ?? 'null';
}

// Returns undefined for a value that an object omits, as `JSON.stringify` does.
function write(value, at, key) {
  if (value !== null && typeof value === 'object') return writeObject(value, at, key);
  switch (typeof value) {
    case 'string':
      return JSON.stringify(value);
    case 'number':
      if (!Number.isFinite(value)) refuse(at, `${value} has no JSON form; return null or a text instead`);
      return JSON.stringify(value);
    case 'bigint':
      return String(value);
    case 'boolean':
      return String(value);
    case 'undefined':
      return undefined;
    case 'function':
    case 'symbol':
      // As a method of an object it is left out.
      return typeof at.steps[at.steps.length - 1] === 'string' ? undefined : refuse(at, `a ${typeof value} has no JSON form`);
    default:
      return 'null';
  }
}

function writeObject(value, at, key) {
  if (at.parents.includes(value)) refuse(at, 'it contains itself, so it has no JSON form');
  if (at.parents.length >= DEPTH_MAX) refuse(at, `it is nested more than ${DEPTH_MAX} levels deep`);
  if (value instanceof Date && Number.isNaN(value.getTime())) refuse(at, 'an invalid Date has no JSON form');
  if (typeof value.then === 'function') refuse(at, 'a promise has no JSON form; await it');
  at.parents.push(value);
  const text = typeof value.toJSON === 'function' ? write(value.toJSON(key), at, key) : writePlain(value, at);
  at.parents.pop();
  return text;
}

function writePlain(value, at) {
  if (Array.isArray(value)) return writeItems(value, at);
  if (value instanceof Map) return writeMap(value, at);
  if (value instanceof Set) return writeItems([...value], at);
  if (value instanceof Uint8Array || value instanceof ArrayBuffer) {
    return JSON.stringify(encodeBase64(new Uint8Array(value)));
  }
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) return writeItems([...value], at);
  if (value instanceof Number || value instanceof String || value instanceof Boolean) return write(value.valueOf(), at, '');
  if (value instanceof Error) return writeEntries(Object.entries({ name: value.name, message: value.message, ...value }), at);
  return writeEntries(Object.entries(value), at);
}

function writeItems(items, at) {
  const texts = [];
  // By index: `map` skips holes.
  for (let index = 0; index < items.length; index += 1) {
    at.steps.push(index);
    texts.push(write(items[index], at, String(index)) ?? 'null');
    at.steps.pop();
  }
  return `[${texts.join(',')}]`;
}

function writeMap(map, at) {
  for (const key of map.keys()) {
    if (typeof key !== 'string' && typeof key !== 'number') {
      const text = inspect(key, { quote: true });
      refuse(at, `the key ${text} of a Map is neither text nor a number, so it has no JSON form`);
    }
  }
  return writeEntries([...map], at);
}

function writeEntries(entries, at) {
  const texts = [];
  for (const [key, value] of entries) {
    at.steps.push(String(key));
    const text = write(value, at, String(key));
    at.steps.pop();
    if (text !== undefined) texts.push(`${JSON.stringify(String(key))}:${text}`);
  }
  return `{${texts.join(',')}}`;
}

function refuse(at, problem) {
  throw new NotJson(`${at.path}${pathText(at.steps)}: ${problem}`);
}
