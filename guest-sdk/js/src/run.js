// Runs one attempt, the same in a module and in a test.

import { bind } from './arguments.js';
import { createConsole } from './console.js';
import { BadArguments, stackOf, toFailure } from './errors.js';
import { getHost } from './host.js';
import { toJson } from './json/write.js';
import { findTask } from './registry.js';

/**
 * Returns the JSON of the result, or a promise of it; throws a `failure` of the contract, or rejects with it.
 *
 * @param {{ name: string, args: string, kwargs: string }} call
 */
export function run(call) {
  const host = getHost('run()');
  try {
    const task = findTask(call.name);
    if (task === undefined) throw new BadArguments(`this module has no task '${call.name}'`);
    const result = task.run(...bind(task, call.args, call.kwargs));
    if (typeof result?.then !== 'function') return toJson(result, 'result');
    if (!host.awaits) throw noPromises(call.name);
    // The failure is thrown, not returned, in the way that both engines take for the error of a call.
    return Promise.resolve(result).then((value) => toJson(value, 'result')).catch((error) => fail(error, host));
  } catch (error) {
    return fail(error, host);
  }
}

function fail(thrown, host) {
  const failure = toFailure(thrown, host.u64);
  if (failure.tag === 'failed') host.log('error', stackOf(thrown));
  throw failure;
}

function noPromises(name) {
  return new TypeError(
    `task '${name}' returned a promise, which the small engine cannot await: ask for it with a comment // @engine complete in the source`,
  );
}

/** A console whose lines go to the host of the running attempt; at the top level they are dropped. */
export function consoleFor(find) {
  return createConsole((level, message) => find()?.log(level, message));
}
