// What the small engine (QuickJS) lacks and most packages expect: randomness that differs from attempt to attempt,
// `crypto.getRandomValues`, `crypto.randomUUID`, `TextEncoder` and `TextDecoder`.

/** Maximum bytes of one `getRandomValues`, as in browsers. */
const RANDOM_BYTES_MAX = 65536;

/**
 * @param {(count: number) => Uint8Array} getRandomBytes of `wasi:random/random`
 * @param {() => boolean} isRunning
 */
export function completeGlobals(getRandomBytes, isRunning) {
  Math.random = createRandom(getRandomBytes, isRunning, Math.random);
  globalThis.crypto ??= createCrypto(getRandomBytes);
  globalThis.TextEncoder ??= Utf8Encoder;
  globalThis.TextDecoder ??= Utf8Decoder;
}

// The engine seeds its generator once, and the built module would contain the seed: each attempt would draw the same
// numbers. So this generator (sfc32) is seeded in each attempt.
function createRandom(getRandomBytes, isRunning, atBuild) {
  let state;
  return function random() {
    if (!isRunning()) return atBuild();
    state ??= new Uint32Array(getRandomBytes(16).slice().buffer);
    return (next(state) * 0x200000 + (next(state) >>> 11)) / 2 ** 53;
  };
}

function next(state) {
  const sum = (state[0] + state[1] + state[3]) | 0;
  state[3] += 1;
  state[0] = state[1] ^ (state[1] >>> 9);
  state[1] = state[2] + (state[2] << 3);
  state[2] = ((state[2] << 21) | (state[2] >>> 11)) + sum;
  return sum >>> 0;
}

function createCrypto(getRandomBytes) {
  const getRandomValues = (array) => {
    if (!ArrayBuffer.isView(array) || array instanceof DataView) throw new TypeError('getRandomValues() takes a typed array of integers');
    if (array.byteLength > RANDOM_BYTES_MAX) throw new RangeError(`getRandomValues() fills at most ${RANDOM_BYTES_MAX} bytes`);
    new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(getRandomBytes(array.byteLength));
    return array;
  };
  const randomUUID = () => {
    const bytes = getRandomBytes(16);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
    return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  };
  return Object.freeze({ getRandomValues, randomUUID });
}

class Utf8Encoder {
  get encoding() {
    return 'utf-8';
  }

  encode(text = '') {
    const bytes = [];
    // By code point; a lone surrogate becomes U+FFFD.
    for (const character of String(text)) {
      const point = character.codePointAt(0);
      pushUtf8(bytes, point >= 0xd800 && point <= 0xdfff ? 0xfffd : point);
    }
    return Uint8Array.from(bytes);
  }
}

function pushUtf8(bytes, point) {
  if (point < 0x80) bytes.push(point);
  else if (point < 0x800) bytes.push(0xc0 | (point >> 6), 0x80 | (point & 63));
  else if (point < 0x10000) bytes.push(0xe0 | (point >> 12), 0x80 | ((point >> 6) & 63), 0x80 | (point & 63));
  else bytes.push(0xf0 | (point >> 18), 0x80 | ((point >> 12) & 63), 0x80 | ((point >> 6) & 63), 0x80 | (point & 63));
}

class Utf8Decoder {
  constructor(label = 'utf-8', options = {}) {
    if (!/^utf-?8$/i.test(label)) throw new RangeError(`TextDecoder knows utf-8 only, not ${label}, on the small engine: ask for it with a comment // @engine complete in the source`);
    this.fatal = options.fatal === true;
    this.ignoreBOM = options.ignoreBOM === true;
  }

  get encoding() {
    return 'utf-8';
  }

  decode(input = new Uint8Array()) {
    const bytes = ArrayBuffer.isView(input) ? new Uint8Array(input.buffer, input.byteOffset, input.byteLength) : new Uint8Array(input);
    const parts = [];
    for (let at = 0; at < bytes.length;) {
      const [point, length] = readUtf8(bytes, at);
      if (point < 0 && this.fatal) throw new TypeError('the bytes are not UTF-8');
      parts.push(String.fromCodePoint(point < 0 ? 0xfffd : point));
      at += length;
    }
    const text = parts.join('');
    return !this.ignoreBOM && text.startsWith('\ufeff') ? text.slice(1) : text;
  }
}

// The code point at an offset and its bytes; -1 for a malformed one, whose valid beginning is skipped.
function readUtf8(bytes, at) {
  const first = bytes[at];
  if (first < 0x80) return [first, 1];
  const count = first >= 0xc2 && first < 0xe0 ? 1 : first >= 0xe0 && first < 0xf0 ? 2 : first >= 0xf0 && first < 0xf5 ? 3 : 0;
  if (count === 0) return [-1, 1];
  let point = first & (0x3f >> count);
  for (let index = 1; index <= count; index += 1) {
    const byte = bytes[at + index];
    const least = index > 1 ? 0x80 : first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
    const most = index > 1 ? 0xbf : first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
    if (byte === undefined || byte < least || byte > most) return [-1, index];
    point = (point << 6) | (byte & 63);
  }
  return [point, count + 1];
}
