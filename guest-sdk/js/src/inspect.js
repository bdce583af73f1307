// Values as text for the log, in the manner of `util.inspect`.

const DEPTH_MAX = 4;
const ITEMS_MAX = 100;
const CHARACTERS_MAX = 16384;

/**
 * Formats the arguments of `console.log`: text as it is, other values inspected, `%s`-style placeholders filled in.
 *
 * @param {unknown[]} parts
 */
export function format(parts) {
  let rest = parts;
  const texts = [];
  if (typeof parts[0] === 'string' && parts.length > 1 && parts[0].includes('%')) {
    rest = parts.slice(1);
    texts.push(parts[0].replace(/%([sdifjoOc%])/g, (placeholder, kind) => {
      if (kind === '%') return '%';
      return rest.length === 0 ? placeholder : fill(kind, rest.shift());
    }));
  }
  texts.push(...rest.map((part) => inspect(part)));
  const text = texts.join(' ');
  return text.length <= CHARACTERS_MAX ? text : `${text.slice(0, CHARACTERS_MAX)}…`;
}

function fill(kind, value) {
  switch (kind) {
    case 's':
      return inspect(value);
    case 'd':
      return typeof value === 'bigint' ? `${value}n` : String(Number(value));
    case 'i':
      return typeof value === 'bigint' ? `${value}n` : String(Number.parseInt(value, 10));
    case 'f':
      return String(Number.parseFloat(value));
    case 'c':
      return '';
    default:
      return inspect(value, { quote: true });
  }
}

/**
 * @param {unknown} value
 * @param {{ quote?: boolean }} options whether text gets quotes
 */
export function inspect(value, options = {}) {
  try {
    return inspectAt(value, [], options.quote ?? false);
  } catch {
    // A getter or a proxy of the task threw.
    return `[${typeof value}]`;
  }
}

function inspectAt(value, parents, quote) {
  switch (typeof value) {
    case 'string':
      return quote ? JSON.stringify(value) : value;
    case 'bigint':
      return `${value}n`;
    case 'function':
      return /^class\b/.test(Function.prototype.toString.call(value))
        ? `[class ${value.name || '(anonymous)'}]`
        : `[Function: ${value.name || '(anonymous)'}]`;
    case 'number':
      return Object.is(value, -0) ? '-0' : String(value);
    case 'object':
      return value === null ? 'null' : inspectObject(value, parents);
    default:
      return String(value);
  }
}

function inspectObject(value, parents) {
  if (parents.includes(value)) return '[Circular]';
  if (value instanceof Error) return errorText(value, parents);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'Invalid Date' : value.toISOString();
  if (value instanceof RegExp) return String(value);
  if (value instanceof Promise) return 'Promise {}';
  if (parents.length > DEPTH_MAX) return Array.isArray(value) ? '[Array]' : '[Object]';
  const inner = (part) => inspectAt(part, [...parents, value], true);
  if (Array.isArray(value)) return list('[', value, inner, ']');
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) {
    return list(`${value.constructor.name}(${value.length}) [`, value, inner, ']');
  }
  if (value instanceof Set) return list(`Set(${value.size}) {`, value, inner, '}');
  if (value instanceof Map) {
    return list(`Map(${value.size}) {`, value, ([key, item]) => `${inner(key)} => ${inner(item)}`, '}');
  }
  const name = Object.getPrototypeOf(value)?.constructor?.name;
  const prefix = name === undefined || name === 'Object' ? '' : `${name} `;
  const entry = ([key, item]) => `${/^[A-Za-z_$][\w$]*$/.test(key) ? key : JSON.stringify(key)}: ${inner(item)}`;
  return list(`${prefix}{`, Object.entries(value), entry, '}');
}

function list(open, values, each, close) {
  const texts = [];
  for (const value of values) {
    if (texts.length === ITEMS_MAX) {
      texts.push('…');
      break;
    }
    texts.push(each(value));
  }
  if (texts.length === 0) return open + close;
  return `${open} ${texts.join(', ')} ${close}`;
}

/** The name of an error; that of its class if the class sets none, as with `class Closed extends Error {}`. */
export function errorName(error) {
  const name = String(error.name ?? 'Error');
  return name === 'Error' ? String(error.constructor?.name || name) : name;
}

// V8 begins the stack with the message; the other engines leave it out.
function errorText(error, parents) {
  const name = errorName(error);
  const title = error.message === '' ? name : `${name}: ${error.message}`;
  const stack = typeof error.stack === 'string' ? error.stack.trimEnd() : '';
  const frames = stack.startsWith(String(error.name)) ? stack.slice(stack.search(/\n\s+at |$/)) : indented(stack);
  const text = (title + frames).trimEnd();
  const errors = Array.isArray(error.errors) ? error.errors.map((each) => `\n  ${inspectAt(each, [...parents, error], true)}`) : [];
  return text + errors.join('');
}

function indented(stack) {
  const frames = stack === '' ? [] : stack.split('\n');
  return frames.map((line) => `\n    ${line.trim().replace(/^(?!at )/, 'at ')}`).join('');
}
