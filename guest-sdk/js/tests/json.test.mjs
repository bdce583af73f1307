import assert from 'node:assert/strict';
import { test } from 'node:test';

import { decodeBase64, encodeBase64 } from '../src/json/base64.js';
import { fromJson } from '../src/json/read.js';
import { toJson } from '../src/json/write.js';

test('an integer that a number would round is read as a BigInt', () => {
  assert.deepEqual(fromJson('[9007199254740993, -9007199254740993, 9007199254740992, 1e300, 0.12345678901234567]'),
    [9007199254740993n, -9007199254740993n, 9007199254740992, 1e300, 0.12345678901234567]);
  assert.deepEqual(fromJson('{"9007199254740993": "9007199254740993 \\" 9007199254740993"}'), { '9007199254740993': '9007199254740993 " 9007199254740993' });
  assert.deepEqual(fromJson('["\\u00019007199254740993", 9007199254740993]'), ['\u00019007199254740993', 9007199254740993n]);
  assert.equal(fromJson('100000000000000000000'), 100000000000000000000);
  assert.equal(fromJson('18446744073709551615'), 18446744073709551615n);
});

test('text that is not JSON is refused as it is', () => {
  assert.throws(() => fromJson('[9007199254740993'), SyntaxError);
  assert.throws(() => fromJson('9007199254740993 9007199254740993'), SyntaxError);
});

test('a result is written as JSON.stringify writes it', () => {
  const values = [null, true, 0, -0, 1.5, 1e21, 'ä"\n\u2028\ud800', [], {}, [1, [undefined, null]], { a: undefined, b: { c: [1] } }, new Date(0),
    new Number(1), new String('x'), [, 1], { toJSON: () => ({ x: 1 }) }, Object.create({ inherited: 1 }), { f() {}, s: Symbol('x') }];
  for (const value of values) assert.equal(toJson(value, 'result'), JSON.stringify(value));
});

test('what JSON.stringify loses has a form', () => {
  assert.equal(toJson(undefined, 'result'), 'null');
  assert.equal(toJson(12345678901234567890n, 'result'), '12345678901234567890');
  assert.equal(toJson({ a: new Map([['x', 1n], ['y', new Set([2])]]) }, 'result'), '{"a":{"x":1,"y":[2]}}');
  assert.equal(toJson(new Map([[1, 2]]), 'result'), '{"1":2}');
  assert.equal(toJson(new Uint8Array([1, 2, 3]), 'result'), '"AQID"');
  assert.equal(toJson(new Float32Array([1.5]), 'result'), '[1.5]');
  assert.equal(toJson(new BigInt64Array([1n]), 'result'), '[1]');
  assert.equal(toJson(new TypeError('x'), 'result'), '{"name":"TypeError","message":"x"}');
});

test('a value without a JSON form is refused with its path', () => {
  const circular = { a: [] };
  circular.a.push(circular);
  const twice = {};
  assert.equal(toJson([twice, twice], 'result'), '[{},{}]');
  let deep = [];
  for (let count = 0; count < 1000; count += 1) deep = [deep];
  for (const [value, message] of [
    [NaN, /^result: NaN has no JSON form/],
    [{ x: [1, Infinity] }, /^result\.x\[1\]: Infinity has no JSON form/],
    [circular, /^result\.a\[0\]: it contains itself/],
    [deep, /nested more than 200 levels/],
    [new Map([[{}, 1]]), /^result: the key \{\} of a Map/],
    [() => 1, /^result: a function/],
    [[Symbol('x')], /^result\[0\]: a symbol/],
    [new Date(NaN), /^result: an invalid Date/],
    [[Promise.resolve(1)], /^result\[0\]: a promise has no JSON form; await it/],
  ]) assert.throws(() => toJson(value, 'result'), { name: 'NotJson', message });
});

test('base64 of every length is read as it was written', () => {
  for (let length = 0; length < 70; length += 1) {
    const bytes = Uint8Array.from({ length }, (_, index) => (index * 37 + length) & 255);
    assert.equal(encodeBase64(bytes), Buffer.from(bytes).toString('base64'));
    assert.deepEqual(decodeBase64(encodeBase64(bytes)), bytes);
    assert.deepEqual(decodeBase64(Buffer.from(bytes).toString('base64url')), bytes);
  }
  for (const text of ['a', 'a=', '=', 'ab=c', 'a b c', 'ä===']) assert.equal(decodeBase64(text), undefined, text);
});
