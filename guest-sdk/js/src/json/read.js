// Reads JSON without rounding: an integer that a number cannot hold becomes a BigInt.
//
// `JSON.parse` rounds 9007199254740993 silently. Texts with such integers are rare, so they are searched for first;
// `JSON.parse` then reads all others as they are.

const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** @param {string} text */
export function fromJson(text) {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  let mark = '\u0001';
  while (text.includes(JSON.stringify(mark).slice(1, -1)) || text.includes(mark)) mark += '\u0001';
  let isMarked = false;
  const marked = text.replace(TOKEN, (token) => {
    if (isExact(token)) return token;
    isMarked = true;
    return JSON.stringify(mark + token);
  });
  if (!isMarked) return JSON.parse(text);
  return JSON.parse(marked, (_, value) =>
    typeof value === 'string' && value.startsWith(mark) ? BigInt(value.slice(mark.length)) : value);
}

// Strings and fractions are never integers that a number rounds.
function isExact(token) {
  if (!/^-?\d{16,}$/.test(token)) return true;
  return BigInt(token) === BigInt(Number(token));
}
