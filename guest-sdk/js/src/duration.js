// Durations: a number of seconds, or text with units such as "1h 30m".

const SECONDS = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86400 };
/** Maximum: ten years, as everywhere in fastworker. */
const SECONDS_MAX = 10 * 365 * SECONDS.d;

/**
 * Returns the duration in seconds.
 *
 * @param {unknown} value
 * @param {string} key for the error
 */
export function durationToSeconds(value, key) {
  const seconds = typeof value === 'string' ? parse(value) : value;
  if (typeof seconds !== 'number' || !Number.isFinite(seconds) || seconds < 0) {
    const found = typeof value === 'string' ? JSON.stringify(value) : String(value);
    throw new TypeError(`${key}: ${found} is not a duration; write seconds, such as 30, or a text such as "1h 30m"`);
  }
  if (seconds > SECONDS_MAX) throw new RangeError(`${key}: a duration has at most ten years`);
  return seconds;
}

function parse(text) {
  let seconds = 0;
  const rest = text.trim().replace(/(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*/gy, (_, number, unit) => {
    seconds += Number(number) * SECONDS[unit];
    return '';
  });
  return rest === '' && text.trim() !== '' ? Number(seconds.toFixed(6)) : Number.NaN;
}
