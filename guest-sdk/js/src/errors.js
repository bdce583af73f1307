// The errors of tasks, and how each error becomes a `failure` of the contract.

import { durationToSeconds } from './duration.js';
import { COMPLETE as ofComplete } from '../build/globals.mjs';
import { NotJson, toJson } from './json/write.js';
import { errorName, inspect } from './inspect.js';
import { withPlaces } from './places.js';

/** Maximum characters of a message: more of it would hide the rest of the result. */
const MESSAGE_CHARACTERS_MAX = 4096;
/** Maximum causes that are added to a message. */
const CAUSES_MAX = 8;

/** A failure with a machine-readable kind and details. The task's policy decides whether it is retried. */
export class TaskError extends Error {
  constructor(message, options = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.kind = options.kind;
    this.details = options.details;
  }

  get name() {
    return this.constructor.name;
  }
}

/** The arguments do not match the parameters. Never retried. */
export class BadArguments extends TaskError {}

/** The task failed, and another attempt would fail too. Never retried. */
export class GiveUp extends TaskError {}

/** The task failed, and the next attempt must wait for `after`. */
export class Retry extends TaskError {
  constructor(message, options = {}) {
    super(message, options);
    this.after = durationToSeconds(options.after ?? 0, 'after');
  }
}

// Their messages say it all, and their names are those of fastworker.
const OWN = new Set([TaskError, BadArguments, GiveUp, Retry, NotJson]);

/**
 * Converts what a task threw to a `failure`: `{ tag, val }`. Both engines take it as the error of `run`.
 *
 * @param {unknown} thrown
 * @param {(n: number) => number | bigint} u64 the engine's form of a u64
 */
export function toFailure(thrown, u64) {
  const error = { message: messageOf(thrown), kind: kindOf(thrown), details: detailsOf(thrown) };
  if (thrown instanceof BadArguments) return { tag: 'bad-arguments', val: error };
  if (thrown instanceof GiveUp) return { tag: 'give-up', val: error };
  if (thrown instanceof Retry) {
    return { tag: 'try-again-after', val: { error, delayMs: u64(Math.round(thrown.after * 1000)) } };
  }
  return { tag: 'failed', val: error };
}

/** The text for the log: the stack, and those of the causes. */
export function stackOf(thrown) {
  if (thrown instanceof NotJson) return thrown.message;
  const parts = [];
  for (let error = thrown; parts.length < CAUSES_MAX; error = error.cause) {
    parts.push(isError(error) ? inspect(error) : `thrown: ${inspect(error)}`);
    if (!isError(error) || error.cause === undefined) break;
  }
  return withPlaces(parts.join('\ncaused by '));
}

/** Errors of other realms and libraries are not always `instanceof Error`. */
export function isError(value) {
  return value instanceof Error || Object.prototype.toString.call(value) === '[object Error]';
}

function messageOf(thrown) {
  if (!isError(thrown)) {
    const isText = typeof thrown === 'string' && thrown.trim() !== '';
    return shorten(isText ? thrown : `the task threw ${inspect(thrown, { quote: true })}`);
  }
  const own = OWN.has(thrown.constructor);
  const absent = /^(?:'?)(\w+)'? is not defined$/.exec(thrown.message)?.[1];
  const parts = [own ? String(thrown.message) : withName(thrown)];
  if (ofComplete.has(absent)) parts[0] += ` (only the complete engine has ${absent}: ask for it with a comment // @engine complete in the source)`;
  if (Array.isArray(thrown.errors)) parts.push(thrown.errors.map(withName).join('; '));
  for (let cause = thrown.cause, count = 0; cause !== undefined && cause !== null && count < CAUSES_MAX; count += 1) {
    const text = withName(cause);
    // Some errors repeat their cause in their own text.
    if (!parts[parts.length - 1].endsWith(text)) parts.push(text);
    cause = isError(cause) ? cause.cause : undefined;
  }
  return shorten(parts.filter((part) => part !== '').join(': ') || kindOf(thrown) || 'the task failed');
}

function withName(error) {
  if (!isError(error)) return typeof error === 'string' ? error : inspect(error);
  const name = errorName(error);
  const message = String(error.message ?? '');
  if (message === '') return name;
  return name === 'Error' || OWN.has(error.constructor) ? message : `${name}: ${message}`;
}

function kindOf(thrown) {
  if (!isError(thrown)) return '';
  if (typeof thrown.kind === 'string' && thrown instanceof TaskError) return thrown.kind;
  return OWN.has(thrown.constructor) ? '' : errorName(thrown);
}

function detailsOf(thrown) {
  if (!(thrown instanceof TaskError) || thrown.details === undefined) return '';
  try {
    return toJson(thrown.details, 'details');
  } catch (error) {
    console.warn(`the details of an error have no JSON form: ${error.message}`);
    return '';
  }
}

function shorten(text) {
  return text.length <= MESSAGE_CHARACTERS_MAX ? text : `${text.slice(0, MESSAGE_CHARACTERS_MAX)}…`;
}
