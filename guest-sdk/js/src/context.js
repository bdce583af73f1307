// What a running task can ask of the host.

import { durationToSeconds } from './duration.js';
import { format } from './inspect.js';
import { findHost, getHost } from './host.js';
import { toJson } from './json/write.js';
import { followUpOptions } from './policy.js';
import { nameOf } from './registry.js';

/** Returns the running attempt. */
export function current() {
  const { taskId, name, attempt, deadlineMs, metadata } = getHost('current()').current();
  const entries = parseObject(metadata);
  const deadline = new Date(Number(deadlineMs));
  return {
    taskId,
    name,
    attempt,
    deadline,
    remaining: () => Math.max(0, (deadline.getTime() - Date.now()) / 1000),
    priority: entries.priority ?? 'normal',
    parent: entries.parent,
    tags: entries.tags ?? [],
    traceparent: entries.traceparent,
    metadata: entries,
  };
}

/** Reports progress: `done` of `total` steps; a total of 0 is unknown. */
export function progress(done, total = 0, message = '') {
  getHost('progress()').progress(count(done, 'done'), count(total, 'total'), String(message));
}

/** Returns whether the attempt is about to be stopped. */
export function isCancelled() {
  return getHost('isCancelled()').isCancelled();
}

/** Submits a task when this attempt succeeds, and returns its id. */
export function submit(task, args = [], options = {}) {
  const host = getHost('submit()');
  const name = typeof task === 'function' ? nameOf(task) : task;
  if (typeof name !== 'string') throw new TypeError('submit() takes the name of a task, or what task() returned');
  if (!Array.isArray(args)) throw new TypeError(`submit('${name}') takes its arguments as an array: submit('${name}', [x, y])`);
  const { kwargs = {}, ...rest } = options;
  const followUp = {
    name,
    args: toJson(args, 'args'),
    kwargs: toJson(kwargs, 'kwargs'),
    options: JSON.stringify(followUpOptions(rest)),
  };
  try {
    return host.submit(followUp);
  } catch (error) {
    const reason = typeof error === 'string' ? error : (error?.payload ?? error?.val ?? error?.message ?? error);
    throw new Error(`the follow-up '${name}' cannot be submitted: ${reason}`);
  }
}

/** Blocks for a duration. Nothing else runs meanwhile, also not on the complete engine. */
export function sleep(duration) {
  getHost('sleep()').sleep(durationToSeconds(duration, 'sleep'));
}

const at = (level) => (...parts) => {
  // At the top level there is no log: the module is being built.
  findHost()?.log(level, format(parts));
};

/** Adds lines to the log of the task. */
export const log = Object.freeze({
  trace: at('trace'),
  debug: at('debug'),
  info: at('info'),
  warn: at('warn'),
  error: at('error'),
});

function count(value, name) {
  const number = Math.floor(Number(value));
  if (number >= 0 && number <= Number.MAX_SAFE_INTEGER) return number;
  throw new TypeError(`progress(): ${name} is ${value}, and should be a number of steps`);
}

function parseObject(text) {
  const value = text === '' ? {} : JSON.parse(text);
  return value !== null && typeof value === 'object' ? value : {};
}
