// `console` writes to the log of the task, each method at its level, on every engine.

import { format, inspect } from './inspect.js';

/**
 * @param {(level: string, message: string) => void} write
 * @returns {Partial<Console>}
 */
export function createConsole(write) {
  let indent = '';
  const counts = new Map();
  const timers = new Map();
  const line = (level, text) => write(level, indent === '' ? text : text.replace(/^/gm, indent));
  const at = (level) => (...parts) => line(level, format(parts));
  const elapsed = (label) => {
    const start = timers.get(label);
    if (start === undefined) line('warn', `there is no timer '${label}'`);
    return start === undefined ? undefined : `${label}: ${Date.now() - start} ms`;
  };
  const group = (...parts) => {
    if (parts.length > 0) line('info', format(parts));
    indent += '  ';
  };
  return {
    log: at('info'),
    info: at('info'),
    debug: at('debug'),
    warn: at('warn'),
    error: at('error'),
    trace: (...parts) => line('trace', `${format(parts)}\n${new Error().stack}`.trim()),
    dir: (value) => line('info', inspect(value, { quote: true })),
    dirxml: at('info'),
    table: (rows) => line('info', inspect(rows, { quote: true })),
    assert: (isTrue, ...parts) => {
      if (!isTrue) line('error', `Assertion failed${parts.length > 0 ? `: ${format(parts)}` : ''}`);
    },
    count: (label = 'default') => {
      counts.set(label, (counts.get(label) ?? 0) + 1);
      line('info', `${label}: ${counts.get(label)}`);
    },
    countReset: (label = 'default') => counts.delete(label),
    time: (label = 'default') => timers.set(label, Date.now()),
    timeLog: (label = 'default', ...parts) => {
      const text = elapsed(label);
      if (text !== undefined) line('info', [text, format(parts)].join(' ').trimEnd());
    },
    timeEnd: (label = 'default') => {
      const text = elapsed(label);
      if (text !== undefined) line('info', text);
      timers.delete(label);
    },
    group,
    groupCollapsed: group,
    groupEnd: () => {
      indent = indent.slice(2);
    },
  };
}
