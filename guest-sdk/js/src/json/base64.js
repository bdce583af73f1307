// Base64 by hand: not every engine has `Buffer` or `Uint8Array.fromBase64`.

const DIGITS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

/** @param {Uint8Array} bytes */
export function encodeBase64(bytes) {
  const parts = [];
  for (let at = 0; at < bytes.length; at += 3) {
    const count = Math.min(3, bytes.length - at);
    const bits = (bytes[at] << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0);
    const digits = DIGITS[bits >> 18] + DIGITS[(bits >> 12) & 63] + DIGITS[(bits >> 6) & 63] + DIGITS[bits & 63];
    parts.push(digits.slice(0, count + 1).padEnd(4, '='));
  }
  return parts.join('');
}

/** Returns the bytes, or undefined if the text is not base64 (of either alphabet, with or without padding). */
export function decodeBase64(text) {
  if (text.endsWith('=') && text.length % 4 !== 0) return undefined;
  const digits = text.replace(/-/g, '+').replace(/_/g, '/').replace(/={0,2}$/, '');
  if (!/^[A-Za-z0-9+/]*$/.test(digits) || digits.length % 4 === 1) return undefined;
  const bytes = new Uint8Array(Math.floor((digits.length * 3) / 4));
  for (let at = 0, to = 0; at < digits.length; at += 4) {
    let bits = 0;
    for (let index = 0; index < 4; index += 1) bits = (bits << 6) | Math.max(0, DIGITS.indexOf(digits[at + index] ?? 'A'));
    for (let shift = 16; shift >= 0 && to < bytes.length; shift -= 8) bytes[to++] = (bits >> shift) & 255;
  }
  return bytes;
}
