// The tasks of this module.

import { hint } from './nearest.js';
import { POLICY_KEYS, isSchedule, policyOf } from './policy.js';
import { describeParameters, describeResult } from './signature.js';

const NAME_BYTES_MAX = 128;
const OPTION_KEYS = ['documentation', 'parameters', 'result', ...POLICY_KEYS];

/** @type {Map<string, import('./signature.js').Task>} */
const tasks = new Map();
/** The names of what `task` returned, for `submit`. */
const names = new WeakMap();

/**
 * Makes a function a task: `task(name?, options?, run)`. The build adds a last argument, the signature that it read
 * from the source.
 */
export function task(...given) {
  const at = given.findIndex((value) => typeof value === 'function');
  if (at < 0) throw new TypeError('task() takes a function: task("add", (x, y) => x + y)');
  const run = given[at];
  const derived = given[at + 1] ?? {};
  const head = given.slice(0, at);
  const name = typeof head[0] === 'string' ? head.shift() : (derived.name ?? run.name);
  const options = head.shift() ?? {};
  if (options === null || typeof options !== 'object' || head.length > 0) {
    throw new TypeError('task() takes a name, options and a function, in this order: task("add", { timeout: 30 }, run)');
  }
  checkName(name);
  try {
    tasks.set(name, create(name, options, run, derived));
  } catch (error) {
    error.message = `task '${name}': ${error.message}`;
    throw error;
  }
  names.set(run, name);
  return run;
}

/** Returns the name of a function that is a task. */
export function nameOf(run) {
  return names.get(run);
}

/** Returns the task of this name. */
export function findTask(name) {
  return tasks.get(name);
}

/** Returns the tasks in the order of their names. */
export function allTasks() {
  return [...tasks.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Takes out all tasks: those of the file that `fastworker/testing` loads next are apart. */
export function takeTasks() {
  const taken = new Map(tasks);
  tasks.clear();
  return taken;
}

/** Puts tasks back that `takeTasks` returned. */
export function putTasks(taken) {
  for (const [name, each] of taken) tasks.set(name, each);
}

function create(name, options, run, derived) {
  for (const key of Object.keys(options)) {
    if (!OPTION_KEYS.includes(key)) throw new TypeError(`there is no option ${key}${hint(key, OPTION_KEYS)}`);
  }
  if (tasks.has(name)) throw new TypeError(`another task has this name${placeText(tasks.get(name).at)}: rename one of them`);
  const policy = policyOf(options);
  const parameters = options.parameters === undefined ? derived.parameters : describeParameters(options.parameters);
  const result = options.result === undefined ? derived.result : describeResult(options.result);
  const required = parameters?.find((parameter) => parameter.required);
  if (isSchedule(policy) && required !== undefined) {
    throw new TypeError(
      `a schedule passes no arguments: give '${required.name}' a default, or use \`fastworker schedule add\`, which can pass arguments`,
    );
  }
  const documentation = String(options.documentation ?? derived.documentation ?? '');
  return { name, run, documentation, parameters, result, policy, at: derived.at };
}

function placeText(at) {
  return at === undefined ? '' : `, at ${at}`;
}

function checkName(name) {
  if (name === '' || name === undefined) {
    throw new TypeError('a task needs a name: task("add", (x, y) => x + y)');
  }
  // eslint-disable-next-line no-control-regex
  if (/[\u0000-\u001f\u007f-\u009f]/.test(name)) throw new TypeError(`the task name ${JSON.stringify(name)} has control characters`);
  const bytes = unescape(encodeURIComponent(name)).length;
  if (bytes > NAME_BYTES_MAX) throw new TypeError(`a task name has at most ${NAME_BYTES_MAX} bytes, and this one has ${bytes}: ${name.slice(0, 40)}…`);
}
