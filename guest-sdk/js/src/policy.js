// The options of a task and of a follow-up, checked, in the form of the contract.

import { durationToSeconds } from './duration.js';
import { LIMITS } from './limits.js';
import { hint } from './nearest.js';

const PRIORITIES = ['critical', 'high', 'normal', 'low'];
const OVERLAPS = ['skip', 'queue'];
const COUNT_MAX = 2 ** 32 - 1;
/** Minimum interval of a schedule, in seconds. */
const EVERY_MIN = 0.1;

// For each key: its name in the contract, and the check that returns its value there.
const POLICY = {
  priority: ['priority', oneOf(PRIORITIES)],
  timeout: ['timeout', positive('a timeout of zero would stop the task before it starts')],
  maxRetries: ['max_retries', whole(0)],
  retryDelay: ['retry_delay', durationToSeconds],
  retryBackoff: ['retry_backoff', factor],
  retryBackoffMax: ['retry_backoff_max', durationToSeconds],
};
const SCHEDULE = {
  every: ['every', interval],
  cron: ['cron', pattern],
  tz: ['tz', text('a time zone such as "Europe/Paris"')],
  overlap: ['overlap', oneOf(OVERLAPS)],
  count: ['count', whole(1)],
  until: ['until', time],
};
const FOLLOW_UP = { ...POLICY, countdown: ['countdown', durationToSeconds] };

/** The keys of the options of `task` that are a policy. */
export const POLICY_KEYS = [...Object.keys(POLICY), ...Object.keys(SCHEDULE), ...Object.keys(LIMITS)];

/** Returns the `policy` of a descriptor. */
export function policyOf(options) {
  const policy = convert(options, { ...POLICY, ...SCHEDULE, ...LIMITS });
  if ('every' in policy && 'cron' in policy) throw new TypeError('every and cron exclude each other');
  if ('tz' in policy && !('cron' in policy)) throw new TypeError('tz applies to cron only');
  for (const key of ['overlap', 'count', 'until']) {
    if (key in policy && !isSchedule(policy)) throw new TypeError(`${key} needs every or cron as well`);
  }
  return policy;
}

/** Whether a policy has a schedule. */
export function isSchedule(policy) {
  return 'every' in policy || 'cron' in policy;
}

/** Returns the `options` of a follow-up. */
export function followUpOptions(options) {
  const keys = ['kwargs', ...Object.keys(FOLLOW_UP)];
  for (const key of Object.keys(options)) {
    if (!Object.hasOwn(FOLLOW_UP, key)) throw new TypeError(`submit() has no option ${key}${hint(key, keys)}`);
  }
  return convert(options, FOLLOW_UP);
}

function convert(options, keys) {
  const result = {};
  for (const [key, [name, check]] of Object.entries(keys)) {
    if (options[key] !== undefined) result[name] = check(options[key], key);
  }
  return result;
}

function oneOf(values) {
  return (value, key) => {
    if (values.includes(value)) return value;
    throw new TypeError(`${key}: ${JSON.stringify(value)} is none of ${values.join(', ')}`);
  };
}

function positive(why) {
  return (value, key) => {
    const seconds = durationToSeconds(value, key);
    if (seconds > 0) return seconds;
    throw new RangeError(`${key}: ${why}`);
  };
}

function whole(least) {
  return (value, key) => {
    if (Number.isInteger(value) && value >= least && value <= COUNT_MAX) return value;
    throw new TypeError(`${key}: ${String(value)} is not a whole number from ${least} to ${COUNT_MAX}`);
  };
}

function factor(value, key) {
  if (typeof value === 'number' && Number.isFinite(value) && value >= 1) return value;
  throw new TypeError(`${key}: ${String(value)} is not a factor of at least 1`);
}

function interval(value, key) {
  const seconds = durationToSeconds(value, key);
  if (seconds >= EVERY_MIN) return seconds;
  throw new RangeError(`${key}: the minimum interval is "100ms"`);
}

// The host checks the fields.
function pattern(value, key) {
  const fields = typeof value === 'string' ? value.trim().split(/\s+/) : [];
  if (fields.length === 5 || fields.length === 6 || (fields.length === 1 && fields[0].startsWith('@'))) return value;
  throw new TypeError(
    `${key}: ${JSON.stringify(value)} is not a cron pattern; it has five fields (minute, hour, day of month, month,` +
      ' day of week), or six with seconds in front, as in "0 9 * * MON-FRI"',
  );
}

function text(expected) {
  return (value, key) => {
    if (typeof value === 'string' && value !== '') return value;
    throw new TypeError(`${key}: ${String(value)} is not ${expected}`);
  };
}

function time(value, key) {
  if (value instanceof Date && !Number.isNaN(value.getTime())) return value.toISOString();
  if (typeof value === 'string' && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?$/.test(value)) return value;
  throw new TypeError(`${key}: ${String(value)} is not a time; write one such as "2026-12-31T18:00:00Z"`);
}
