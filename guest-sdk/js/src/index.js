export { task } from './registry.js';
export { current, isCancelled, log, progress, sleep, submit } from './context.js';
export { BadArguments, GiveUp, Retry, TaskError } from './errors.js';
