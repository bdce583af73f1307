// The host of the running attempt: the imports of the module, or those of `fastworker/testing`.

/**
 * @typedef {object} Host
 * @property {(level: string, message: string) => void} log
 * @property {(done: number, total: number, message: string) => void} progress
 * @property {() => import('fastworker:task/host@1.0.0').Context} current
 * @property {() => boolean} isCancelled
 * @property {(task: import('fastworker:task/host@1.0.0').FollowUp) => string} submit
 * @property {(seconds: number) => void} sleep blocks
 * @property {boolean} awaits whether a task may return a promise
 * @property {(n: number) => number | bigint} u64 the engine's form of a u64
 */

/** @type {() => Host | undefined} */
let find = () => undefined;

/** Sets how the host is found: it exists only while an attempt runs. */
export function setHost(finder) {
  find = finder;
}

/** @returns {Host | undefined} */
export function findHost() {
  return find();
}

/** @returns {Host} */
export function getHost(what) {
  const host = find();
  if (host !== undefined) return host;
  throw new Error(
    `${what} works only while a task runs: the top level of a module runs once, when the module is built` +
      ' (in tests, call the task by fastworker/testing)',
  );
}
