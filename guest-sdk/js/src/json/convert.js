// Checks the value of an argument against its schema, and gives it its JavaScript form: a Date, a BigInt, a Map.
//
// The host checks most calls before it queues them; this is for those that it cannot check (follow-ups, and tasks whose
// module no worker had when they were submitted), and for what only JavaScript needs. Keywords that are not known here
// are not checked.

import { inspect } from '../inspect.js';
import { decodeBase64 } from './base64.js';

const FOUND_CHARACTERS_MAX = 60;
const ALTERNATIVES_MAX = 5;

/** A value that does not match. The steps lead to it from the argument. */
export class Mismatch extends Error {
  constructor(expected, found) {
    super('');
    this.expected = expected;
    this.found = found;
    this.steps = [];
    this.isTag = false;
  }
}

/**
 * Returns the JavaScript form of a value.
 *
 * @param {object} schema
 * @param {unknown} value from `fromJson`; it may be changed
 */
export function convert(schema, value) {
  return convertAt(schema ?? {}, value, schema ?? {});
}

function convertAt(schema, value, root) {
  if (schema === true) return convertAny(value);
  if (schema === false) throw new Mismatch('nothing', found(value));
  if (schema.$ref !== undefined) return convertAt(resolve(schema.$ref, root), value, root);
  if (schema.anyOf !== undefined) return convertUnion(schema.anyOf, value, root);
  if (schema.$js === 'bytes') return convertBytes(value);
  checkChoice(schema, value);
  checkType(schema, value);
  if (typeof value === 'number' || typeof value === 'bigint') return convertNumber(schema, value);
  if (typeof value === 'string') return convertText(schema, value);
  if (Array.isArray(value)) return convertItems(schema, value, root);
  if (value !== null && typeof value === 'object') return convertObject(schema, value, root);
  return value;
}

// Nothing is known of the value, but it must not be rounded either.
function convertAny(value) {
  if (typeof value === 'bigint') return convertNumber({}, value);
  if (Array.isArray(value)) value.forEach((item, index) => within(index, () => convertAny(item)));
  else if (value !== null && typeof value === 'object') Object.keys(value).forEach((key) => within(key, () => convertAny(value[key])));
  return value;
}

function convertNumber(schema, value) {
  if (schema.$js === 'bigint') value = BigInt(value);
  else if (typeof value === 'bigint') throw new Mismatch('a number that JavaScript does not round (declare it as bigint, or pass a string)', found(value));
  const { minimum, maximum } = schema;
  if ((minimum !== undefined && value < minimum) || (maximum !== undefined && value > maximum)) {
    const bounds = maximum === undefined ? `of at least ${minimum}` : minimum === undefined ? `of at most ${maximum}` : `from ${minimum} to ${maximum}`;
    throw new Mismatch(`${schema.type ?? 'number'} ${bounds}`, found(value));
  }
  return value;
}

function convertText(schema, value) {
  const length = schema.minLength === undefined && schema.maxLength === undefined ? 0 : [...value].length;
  checkCount(length, schema.minLength, schema.maxLength, 'string', 'character', value);
  if (schema.$js !== 'date') return value;
  const date = new Date(value);
  if (Number.isNaN(date.getTime())) throw new Mismatch('a date and time such as "2026-01-31T09:00:00Z"', found(value));
  return date;
}

function convertItems(schema, value, root) {
  checkCount(value.length, schema.minItems, schema.maxItems, 'array', 'item', value);
  const first = schema.prefixItems ?? [];
  value.forEach((item, index) => {
    value[index] = within(index, () => convertAt(first[index] ?? schema.items ?? true, item, root));
  });
  return schema.$js === 'set' ? new Set(value) : value;
}

function convertObject(schema, value, root) {
  // Tags first: they tell which variant of a union the value is meant to be.
  for (const [key, each] of Object.entries(schema.properties ?? {})) {
    if (typeof each === 'object' && 'const' in each && Object.hasOwn(value, key)) within(key, () => checkChoice(each, value[key]));
  }
  for (const key of schema.required ?? []) {
    if (!Object.hasOwn(value, key)) within(key, () => { throw new Mismatch(expectedBy(schema.properties?.[key] ?? true, root), 'nothing'); });
  }
  for (const key of Object.keys(value)) {
    const declared = schema.properties !== undefined && Object.hasOwn(schema.properties, key);
    const item = declared ? schema.properties[key] : (schema.additionalProperties ?? true);
    const converted = within(key, () => convertAt(item, value[key], root));
    // `value.__proto__ = …` would change the prototype.
    Object.defineProperty(value, key, { value: converted, writable: true, enumerable: true, configurable: true });
  }
  return schema.$js === 'map' ? new Map(Object.entries(value)) : value;
}

function convertBytes(value) {
  if (typeof value === 'string') {
    const bytes = decodeBase64(value);
    if (bytes !== undefined) return bytes;
  } else if (Array.isArray(value)) {
    value.forEach((item, index) => within(index, () => {
      if (!Number.isInteger(item) || item < 0 || item > 255) throw new Mismatch('integer from 0 to 255', found(item));
    }));
    return Uint8Array.from(value);
  }
  throw new Mismatch('base64 text or an array of bytes', found(value));
}

// A failure inside of a value is nearer than one of the whole value, and one inside of a variant nearer than a wrong tag.
function convertUnion(schemas, value, root) {
  const isShared = value !== null && typeof value === 'object';
  const errors = [];
  for (const schema of schemas) {
    try {
      return convertAt(schema, isShared ? copy(value) : value, root);
    } catch (error) {
      if (!(error instanceof Mismatch)) throw error;
      if (error.steps.length > 0) errors.push(error);
    }
  }
  const nearest = errors.sort((a, b) => Number(a.isTag) - Number(b.isTag) || b.steps.length - a.steps.length)[0];
  if (nearest === undefined) throw new Mismatch(expectedBy({ anyOf: schemas }, root), found(value));
  if (nearest.isTag) nearest.expected = either([...new Set(errors.map((error) => error.expected))]);
  throw nearest;
}

function copy(value) {
  if (Array.isArray(value)) return value.map(copy);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, copy(each)]));
}

function checkChoice(schema, value) {
  const isTag = 'const' in schema;
  const choices = isTag ? [schema.const] : schema.enum;
  if (choices === undefined || choices.includes(value)) return;
  const error = new Mismatch(expectedBy(schema), found(value));
  error.isTag = isTag;
  throw error;
}

function checkType(schema, value) {
  if (schema.type === undefined) {
    if (typeof value === 'bigint' && schema.$js === undefined) convertNumber({}, value);
    return;
  }
  const types = [schema.type].flat();
  const kind = kindOf(value);
  const isNumber = typeof value === 'number' || typeof value === 'bigint';
  const isInteger = typeof value === 'bigint' || Number.isInteger(value);
  if (types.includes(kind) || (isNumber && (types.includes('number') || (types.includes('integer') && isInteger)))) return;
  throw new Mismatch(expectedBy(schema), found(value));
}

function checkCount(count, least, most, kind, unit, value) {
  if ((least === undefined || count >= least) && (most === undefined || count <= most)) return;
  const range = least === most ? `${least}` : most === undefined ? `at least ${least}` : least === undefined ? `at most ${most}` : `${least} to ${most}`;
  const expected = `${kind} of ${range} ${unit}${range === '1' ? '' : 's'}`;
  throw new Mismatch(expected, kind === 'array' ? `array of ${count}` : found(value));
}

function resolve(ref, root) {
  const name = ref.replace(/^#\/\$defs\//, '').replace(/~1/g, '/').replace(/~0/g, '~');
  return root.$defs !== undefined && Object.hasOwn(root.$defs, name) ? root.$defs[name] : {};
}

function within(step, body) {
  try {
    return body();
  } catch (error) {
    if (error instanceof Mismatch) error.steps.unshift(step);
    throw error;
  }
}

function expectedBy(schema, root = schema) {
  if (schema === true) return 'any value';
  if (schema.$ref !== undefined) return expectedBy(resolve(schema.$ref, root), {});
  if (schema.$js === 'bytes') return 'base64 text or an array of bytes';
  const choices = 'const' in schema ? [schema.const] : schema.enum;
  if (choices !== undefined) return either(choices.map((choice) => JSON.stringify(choice)));
  if (schema.anyOf !== undefined) return either([...new Set(schema.anyOf.map((each) => expectedBy(each, root)))]);
  return schema.type === undefined ? 'any value' : either([schema.type].flat());
}

function either(texts) {
  const named = texts.length > ALTERNATIVES_MAX ? [...texts.slice(0, ALTERNATIVES_MAX), '…'] : texts;
  return named.length < 2 ? named.join('') : `${named.slice(0, -1).join(', ')} or ${named[named.length - 1]}`;
}

function kindOf(value) {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return typeof value === 'bigint' ? 'number' : typeof value;
}

function found(value) {
  const kind = kindOf(value);
  if (kind === 'null' || kind === 'array' || kind === 'object') return kind;
  const text = typeof value === 'bigint' ? String(value) : inspect(value, { quote: true });
  return `${kind} ${text.length > FOUND_CHARACTERS_MAX ? `${text.slice(0, FOUND_CHARACTERS_MAX)}…` : text}`;
}
