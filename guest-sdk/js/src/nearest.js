// The key that someone may have meant.

const DISTANCE_MAX = 3;

/** Returns " (did you mean …?)" for the nearest of `names`, or all of them. */
export function hint(name, names) {
  const best = names.map((each) => [distance(name.toLowerCase(), each.toLowerCase()), each]).sort((a, b) => a[0] - b[0])[0];
  return best !== undefined && best[0] <= DISTANCE_MAX ? `; did you mean ${best[1]}?` : `; there are ${names.join(', ')}`;
}

function distance(from, to) {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let i = 1; i <= from.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= to.length; j += 1) {
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (from[i - 1] === to[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[to.length];
}
