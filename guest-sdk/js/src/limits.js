// What a task needs and takes: the names of grants, and the limits of one attempt.

import { durationToSeconds } from './duration.js';

const KINDS = ['env', 'secret', 'dir', 'http', 'tcp'];
/** Maximum number of needs, as in the host. */
const NEEDS_MAX = 100;
const UNITS = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };

/** For each key: its name in the contract, and the check that returns its value there. */
export const LIMITS = {
  needs: ['needs', grants],
  maxMemory: ['max_memory', size],
  maxCpuTime: ['max_cpu_time', time],
  maxHostTime: ['max_host_time', time],
  maxOutput: ['max_output', size],
  maxLog: ['max_log', size],
  maxResult: ['max_result', size],
  maxConnections: ['max_connections', connections],
  maxReceived: ['max_received', size],
  maxSent: ['max_sent', size],
};

// Bytes, or text such as "64 MiB".
function size(value, key) {
  const bytes = typeof value === 'string' ? bytesOf(value) : value;
  if (!Number.isSafeInteger(bytes) || bytes < 0) {
    const found = typeof value === 'string' ? JSON.stringify(value) : String(value);
    throw new TypeError(`${key}: ${found} is not a size; write bytes, such as 1024, or a text such as "64 MiB"`);
  }
  return aboveZero(bytes, key);
}

function bytesOf(text) {
  const found = /^\s*(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB)\s*$/.exec(text);
  return found === null ? Number.NaN : Math.floor(Number(found[1]) * UNITS[found[2]]);
}

function time(value, key) {
  return aboveZero(durationToSeconds(value, key), key);
}

function connections(value, key) {
  if (Number.isInteger(value) && value >= 1 && value < 2 ** 32) return value;
  throw new TypeError(`${key}: ${String(value)} is not a whole number from 1 to ${2 ** 32 - 1}`);
}

function aboveZero(value, key) {
  if (value > 0) return value;
  throw new RangeError(`${key}: a limit must be more than zero; without it, the limit is that of the operator`);
}

// The host checks what comes after the kind.
function grants(value, key) {
  if (!Array.isArray(value)) {
    throw new TypeError(`${key} takes a list of grants, as in ${key}: ['http:api.example.com', 'secret:KEY']`);
  }
  if (value.length > NEEDS_MAX) throw new RangeError(`${key}: a task has at most ${NEEDS_MAX} needs`);
  for (const name of value) {
    const at = typeof name === 'string' ? name.indexOf(':') : -1;
    if (at < 0 || at === name.length - 1 || !KINDS.includes(name.slice(0, at))) {
      const found = typeof name === 'string' ? JSON.stringify(name) : String(name);
      throw new TypeError(
        `${key}: ${found} names no grant; write it like "env:NAME", "secret:NAME", "dir:/data:ro",` +
          ' "http:api.example.com" or "tcp:db:5432"',
      );
    }
  }
  return [...value];
}
