// The signature of a task: what the host shows and checks.

import { hint } from './nearest.js';

/**
 * @typedef {object} Parameter
 * @property {string} name
 * @property {string} [type] as written, human-readable
 * @property {boolean} required
 * @property {object} [schema] a JSON Schema; its key `$js` names the JavaScript form of a value
 * @property {boolean} [nullable] whether null is a value of its own, not the same as a missing argument
 * @property {boolean} [rest] whether it takes all further arguments
 *
 * @typedef {object} Task
 * @property {string} name
 * @property {Function} run
 * @property {string} documentation
 * @property {Parameter[]} [parameters] undefined if they are not known
 * @property {{ type?: string, schema?: object }} [result]
 * @property {object} policy
 * @property {string} [at] where the source registers it, as `file:line`
 */

const KINDS = {
  string: { type: 'string' },
  number: { type: 'number' },
  integer: { type: 'integer' },
  bigint: { type: 'integer', $js: 'bigint' },
  boolean: { type: 'boolean' },
  array: { type: 'array' },
  object: { type: 'object' },
  date: { type: 'string', format: 'date-time', $js: 'date' },
  bytes: { type: ['string', 'array'], $js: 'bytes' },
  any: {},
};

/** Reads the option `parameters`: `{ x: 'integer', 'y?': 'string', order: { type: 'object', … } }`. */
export function describeParameters(parameters) {
  if (parameters === null || typeof parameters !== 'object' || Array.isArray(parameters)) {
    throw new TypeError("parameters: write an object of names and types, such as { x: 'integer', 'y?': 'string' }");
  }
  return Object.entries(parameters).map(([key, kind]) => {
    const required = !key.endsWith('?');
    const name = required ? key : key.slice(0, -1);
    return { name, required, ...describe(kind, `parameters.${name}`) };
  });
}

/** Reads the option `result`: the name of a type, or a JSON Schema. */
export function describeResult(kind) {
  return describe(kind, 'result');
}

function describe(kind, where) {
  if (typeof kind === 'string') {
    if (!Object.hasOwn(KINDS, kind)) throw new TypeError(`${where}: there is no type ${kind}${hint(kind, Object.keys(KINDS))}`);
    return { type: kind, schema: KINDS[kind] };
  }
  if (kind === null || typeof kind !== 'object' || Array.isArray(kind)) {
    throw new TypeError(`${where}: write the name of a type, such as 'integer', or a JSON Schema`);
  }
  const type = typeof kind.title === 'string' ? kind.title : [kind.type ?? 'any'].flat().join(' | ');
  const nullable = [kind.type].flat().includes('null');
  return { type, schema: kind, ...(nullable && { nullable }) };
}

/** Returns the `schema` of a descriptor. */
export function schemaText({ parameters, result }) {
  // The contract has no rest parameters: the task itself checks a call of such a task.
  const isOpen = parameters === undefined || parameters.some((parameter) => parameter.rest);
  return JSON.stringify({
    ...(!isOpen && { parameters: parameters.map(describeParameter) }),
    ...(result !== undefined && { result: hasContent(result.schema) ? { type: result.type, schema: plain(result.schema) } : result.type }),
  });
}

function describeParameter({ name, type, required, schema, nullable }) {
  const described = hasContent(schema) ? plain(required || nullable ? schema : orNull(schema)) : undefined;
  return { name, type, required, ...(described !== undefined && { schema: described }) };
}

// As everywhere in fastworker, null stands for an argument that is omitted.
function orNull(schema) {
  const { $defs, ...rest } = schema;
  const keys = Object.keys(rest);
  const either = keys.length === 1 && keys[0] === 'anyOf' ? [...rest.anyOf, { type: 'null' }] : [rest, { type: 'null' }];
  return { anyOf: either, ...($defs && { $defs }) };
}

function hasContent(schema) {
  return schema !== undefined && Object.keys(schema).length > 0;
}

// Without the hints for JavaScript. A property may have any name, and a constant any content.
function plain(schema) {
  if (Array.isArray(schema)) return schema.map(plain);
  if (schema === null || typeof schema !== 'object') return schema;
  const kept = Object.entries(schema).filter(([key]) => key !== '$js');
  return Object.fromEntries(kept.map(([key, value]) => {
    if (key === 'const' || key === 'enum') return [key, value];
    if (key !== 'properties' && key !== '$defs') return [key, plain(value)];
    return [key, Object.fromEntries(Object.entries(value).map(([name, each]) => [name, plain(each)]))];
  }));
}
