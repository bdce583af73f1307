// A host for tests: runs tasks under Node, and records what they ask of it.

import { AsyncLocalStorage } from 'node:async_hooks';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

import { durationToSeconds } from './duration.js';
import { allTasks, putTasks, takeTasks } from './registry.js';
import { setHost } from './host.js';
import { toJson } from './json/write.js';
import { consoleFor, run } from './run.js';
import { schemaText } from './signature.js';

const attempts = new AsyncLocalStorage();
setHost(() => attempts.getStore());
// Only lines of a running task are recorded; those of the tests go where they went.
const ofNode = { ...console };
const ofTask = consoleFor(() => attempts.getStore());
for (const [name, method] of Object.entries(ofTask)) {
  console[name] = (...parts) => (attempts.getStore() === undefined ? ofNode[name](...parts) : method(...parts));
}

/**
 * Loads a file with tasks as `fastworker build` does: with its signatures.
 *
 * @param {string | URL} entry
 */
export async function load(entry) {
  const path = entry instanceof URL || String(entry).startsWith('file:') ? fileURLToPath(entry) : resolve(entry);
  const before = takeTasks();
  try {
    const exports = await importBundle(path);
    return createModule(exports, takeTasks());
  } finally {
    putTasks(before);
  }
}

async function importBundle(path) {
  process.setSourceMapsEnabled?.(true);
  const { bundleForTest } = await import('../build/test.mjs');
  const sdk = fileURLToPath(new URL('.', import.meta.url));
  const code = await bundleForTest(path, (name) => pathToFileURL(join(sdk, name)).href);
  // Beside nothing of the author's: the bundle has all that it needs.
  const folder = mkdtempSync(join(tmpdir(), 'fastworker-test-'));
  try {
    const file = join(folder, 'module.mjs');
    writeFileSync(file, code);
    return await import(pathToFileURL(file).href);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function createModule(exports, registered) {
  const within = (body) => {
    const before = takeTasks();
    putTasks(registered);
    try {
      return body();
    } finally {
      takeTasks();
      putTasks(before);
    }
  };
  const attempt = async (name, options = {}) => {
    const { args = [], kwargs = {} } = options;
    const host = createHost(name, options);
    const call = { name, args: toJson(args, 'args'), kwargs: toJson(kwargs, 'kwargs') };
    const outcome = { logs: host.logs, progress: host.reports, followUps: host.followUps };
    try {
      const text = await attempts.run(host, () => within(() => run(call)));
      return { ...outcome, result: JSON.parse(text), resultText: text };
    } catch (failure) {
      if (typeof failure?.tag !== 'string') throw failure;
      return { ...outcome, error: readFailure(failure) };
    }
  };
  return {
    exports,
    tasks: within(() => allTasks().map(({ name, documentation, parameters, result, policy }) => ({
      name, documentation, policy, schema: JSON.parse(schemaText({ parameters, result })),
    }))),
    run: attempt,
    async call(name, args = [], kwargs = {}) {
      const { result, error } = await attempt(name, { args, kwargs });
      if (error === undefined) return result;
      throw Object.assign(new Error(error.message), { name: error.kind || 'Error', failure: error });
    },
  };
}

function createHost(name, options) {
  const logs = [];
  const reports = [];
  const followUps = [];
  const { taskId = '00000000-0000-0000-0000-000000000000', attempt = 1, remaining = 60, metadata = {}, cancelledAfter } = options;
  const deadlineMs = Date.now() + durationToSeconds(remaining, 'remaining') * 1000;
  let checks = 0;
  return {
    logs,
    reports,
    followUps,
    awaits: true,
    u64: Number,
    log: (level, message) => logs.push({ level, message }),
    progress: (done, total, message) => reports.push({ done, total, message }),
    current: () => ({ taskId, name, attempt, deadlineMs, metadata: JSON.stringify({ priority: 'normal', ...metadata }) }),
    isCancelled: () => (options.cancelled === true ? true : cancelledAfter !== undefined && checks++ >= cancelledAfter),
    submit: (task) => {
      const id = uuid5(taskId, String(followUps.length));
      followUps.push({ id, name: task.name, args: JSON.parse(task.args), kwargs: JSON.parse(task.kwargs), options: JSON.parse(task.options) });
      return id;
    },
    sleep: (seconds) => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, seconds * 1000),
  };
}

function readFailure({ tag, val }) {
  const { message, kind, details } = val.error ?? val;
  return {
    outcome: tag,
    message,
    kind,
    ...(details !== '' && { details: JSON.parse(details) }),
    ...(val.delayMs !== undefined && { delay: Number(val.delayMs) / 1000 }),
  };
}

// As the host derives the ids of follow-ups.
function uuid5(namespace, name) {
  const bytes = createHash('sha1').update(Buffer.from(namespace.replace(/-/g, ''), 'hex')).update(name).digest().subarray(0, 16);
  bytes[6] = (bytes[6] & 0x0f) | 0x50;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
