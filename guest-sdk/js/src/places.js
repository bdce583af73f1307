// Names the author's files and lines in a stack, instead of those of the bundle.

const KEY = Symbol.for('fastworker.places');

/**
 * @param {string} stack of either engine; frames of the SDK are left out
 * @param {{ sources: string[], runs: number[] }} [places] those of this module
 */
export function withPlaces(stack, places = globalThis[KEY]) {
  if (places === undefined) return stack;
  const lines = [];
  for (const text of stack.split('\n')) {
    const [given, line] = /[^\s(@]*:(\d+):\d+(?=\)?$)/.exec(text) ?? [];
    const place = given === undefined ? undefined : placeOf(places, Number(line));
    if (place === undefined) lines.push(text);
    else if (place !== '') lines.push(text.replace(given, place));
  }
  return lines.join('\n');
}

// The author's `file:line`, empty for the SDK, undefined if it is not known.
function placeOf({ sources, runs }, line) {
  let found;
  for (let at = 0; at < runs.length && runs[at] <= line; at += 3) found = at;
  if (found === undefined) return undefined;
  const source = sources[runs[found + 1]];
  return source === '' ? '' : `${source}:${runs[found + 2] + line - runs[found]}`;
}
