// What a built module exports, and how the build connects it with the engine.

import { completeGlobals } from './engine.js';
import { setHost, findHost } from './host.js';
import { allTasks } from './registry.js';
import { consoleFor, run } from './run.js';
import { schemaText } from './signature.js';

let isRunning = false;

/**
 * Connects the imports of the module. The generated entry calls it before the author's code.
 *
 * @param {object} engine
 * @param {object} engine.host the imports of `fastworker:task/host`
 * @param {boolean} engine.awaits
 * @param {(n: number) => number | bigint} engine.u64
 * @param {(count: number | bigint) => Uint8Array} engine.getRandomBytes of `wasi:random/random`
 * @param {(nanoseconds: number | bigint) => { block(): void }} engine.subscribeDuration of `wasi:clocks/monotonic-clock`
 */
export function connect({ host, awaits, u64, getRandomBytes, subscribeDuration }) {
  const adapter = {
    log: host.log,
    progress: (done, total, message) => host.progress(u64(done), u64(total), message),
    current: host.current,
    isCancelled: host.isCancelled,
    submit: host.submit,
    sleep: (seconds) => subscribeDuration(u64(Math.round(seconds * 1e9))).block(),
    awaits,
    u64,
  };
  setHost(() => (isRunning ? adapter : undefined));
  completeGlobals((count) => getRandomBytes(u64(count)), () => isRunning);
  const lines = consoleFor(findHost);
  globalThis.console = Object.assign(globalThis.console ?? {}, lines);
}

/** The exports of the contract. */
export const tasks = {
  register: () => allTasks().map(({ name, documentation, parameters, result, policy }) => ({
    name,
    documentation,
    schema: schemaText({ parameters, result }),
    policy: JSON.stringify(policy),
  })),
  run: (call) => {
    isRunning = true;
    return run(call);
  },
};
