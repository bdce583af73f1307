import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { createProgram } from '../build/program.mjs';
import { Report } from '../build/report.mjs';
import { findTasks } from '../build/signature.mjs';
import { createImporter } from '../build/tools.mjs';
import { loadText, signatureOf } from './support.mjs';

const number = { type: 'number' };
const string = { type: 'string' };

/** The schemas of the parameters of `task('t', (…) => …)`. */
async function schemasOf(parameters, declarations = '', name = 'tasks.ts') {
  const { parameters: described } = await signatureOf(`${declarations}\ntask('t', (${parameters}) => null);`, name);
  return described.map(({ schema }) => schema);
}

test('types of TypeScript become JSON Schema', async () => {
  const cases = [
    ['x: number', number], ['x: string', string], ['x: boolean', { type: 'boolean' }], ['x: bigint', { type: 'integer' }],
    ['x: null', { type: 'null' }], ['x: unknown', undefined], ['x: any', undefined], ['x: object', { type: 'object' }],
    ['x: 1', { const: 1 }], ["x: 'a' | 'b' | 3", { enum: ['a', 'b', 3] }], ['x: true', { const: true }], ['x: `a${string}`', string],
    ['x: number[]', { type: 'array', items: number }], ['x: readonly string[]', { type: 'array', items: string }],
    ['x: Array<boolean | null>', { type: 'array', items: { anyOf: [{ type: 'boolean' }, { type: 'null' }] } }],
    ['x: [number, string?]', { type: 'array', prefixItems: [number, string], minItems: 1, maxItems: 2 }],
    ['x: [a: number, ...rest: string[]]', { type: 'array', prefixItems: [number], minItems: 1, items: string }],
    ['x: Record<string, number>', { type: 'object', additionalProperties: number }],
    ["x: Record<'a' | 'b', number>", { type: 'object', properties: { a: number, b: number }, required: ['a', 'b'] }],
    ['x: { a: number; b?: string; c: string | undefined }', { type: 'object', properties: { a: number, b: string, c: string }, required: ['a'] }],
    ['x: { [key: string]: unknown }', { type: 'object' }],
    ['x: Date', { type: 'string', format: 'date-time' }], ['x: Map<string, number>', { type: 'object', additionalProperties: number }],
    ['x: Set<number>', { type: 'array', items: number }], ['x: Uint8Array', { type: ['string', 'array'] }],
    ['x: string & { readonly brand: unique symbol }', string],
    ['x: Partial<{ a: number }>', { type: 'object', properties: { a: number } }],
    ["x: Pick<{ a: number; b: string }, 'b'>", { type: 'object', properties: { b: string }, required: ['b'] }],
    ['x: { a: 1 } & { b: 2 }', { type: 'object', properties: { a: { const: 1 }, b: { const: 2 } }, required: ['a', 'b'] }],
    ["x: { kind: 'a' } | { kind: 'b' }", { anyOf: ['a', 'b'].map((kind) => ({ type: 'object', properties: { kind: { const: kind } }, required: ['kind'] })) }],
  ];
  for (const [parameter, expected] of cases) assert.deepEqual(await schemasOf(parameter), [expected], parameter);
});

test('declared types, enums, generics and recursion become JSON Schema', async () => {
  assert.deepEqual(await schemasOf('x: Color, y: Level', 'enum Color { Red = "red", Green = "green" } enum Level { Low, High }'), [{ enum: ['red', 'green'] }, { enum: [0, 1] }]);
  assert.deepEqual(await schemasOf('x: Page<string>', 'interface Page<T> { items: T[] }'),
    [{ type: 'object', properties: { items: { type: 'array', items: string } }, required: ['items'] }]);
  assert.deepEqual(await schemasOf('x: Tree', 'interface Tree { value: number; children: Tree[] }'), [{
    $ref: '#/$defs/Tree',
    $defs: { Tree: { type: 'object', properties: { value: number, children: { type: 'array', items: { $ref: '#/$defs/Tree' } } }, required: ['value', 'children'] } },
  }]);
  assert.deepEqual(await schemasOf('x: Item', 'interface Base { id: string }\ninterface Item extends Base {\n/**\n * In cents.\n * @minimum 0\n */\nprice: number }'),
    [{ type: 'object', properties: { price: { type: 'number', description: 'In cents.', minimum: 0 }, id: string }, required: ['price', 'id'] }]);
});

test('integer of the SDK is kept wherever it is written', async () => {
  const text = "import { task, type integer } from 'fastworker'; type Count = integer; interface Order { count: Count; sizes: integer[]; last: integer | null }\ntask('t', (x: integer, y: Order, z?: integer) => null);";
  const { parameters } = await signatureOf(text);
  const integer = { type: 'integer' };
  assert.deepEqual(parameters.map(({ schema }) => schema), [integer,
    { type: 'object', properties: { count: integer, sizes: { type: 'array', items: integer }, last: { anyOf: [{ type: 'null' }, integer] } }, required: ['count', 'sizes', 'last'] },
    { anyOf: [integer, { type: 'null' }] }]);
});

test('parameters may be optional, have defaults, or be null', async () => {
  const { parameters } = await signatureOf("task('t', (a: number, b?: string, c = 3, d: string | null = null, e: number | undefined = 1, f: string | null) => a);");
  assert.deepEqual(parameters.map(({ name, type, required }) => [name, type, required]), [
    ['a', 'number', true], ['b', 'string', false], ['c', 'number', false], ['d', 'string | null', false], ['e', 'number | undefined', false], ['f', 'string | null', true]]);
  assert.deepEqual(parameters[2].schema, { anyOf: [number, { type: 'null' }] });
});

test('functions in every form are tasks', async () => {
  const module = await loadText(`import { task as t } from 'fastworker'; import * as fw from 'fastworker';
    /** By reference. */
    function one(x: number): number { return x; }
    t(one);
    t(function two(x: number) { return x; });
    /** A constant. */
    export const three = fw.task((x: number) => x);
    t('four', async (x: number): Promise<string> => String(x));
    t({ timeout: '1m' }, function five() {});
    for (const name of ['six', 'seven']) t(name, (x: string) => name + x);
    const wrapped = <F extends (...args: any[]) => unknown>(name: string, run: F) => t(name, { priority: 'low' }, run);
    wrapped('eight', (x: number) => x);`);
  assert.deepEqual(module.tasks.map(({ name, documentation }) => [name, documentation]), [
    ['eight', ''], ['five', ''], ['four', ''], ['one', 'By reference.'], ['seven', ''], ['six', ''], ['three', 'A constant.'], ['two', '']]);
  assert.equal(module.exports.three(3), 3);
  const result = (name) => module.tasks.find((task) => task.name === name).schema.result;
  assert.deepEqual([result('four'), result('two')], [{ type: 'string', schema: string }, { type: 'number', schema: number }]);
  assert.equal(await module.call('eight', [8]), 8);
  assert.equal(await module.call('six', ['x']), 'sixx');
});

test('doc comments describe tasks and parameters', async () => {
  const module = await loadText(`
    /**
     * Adds two numbers.
     *
     * As one learns it.
     * @param x the first
     * @param y - the second
     */
    task('add', (x: number, y: number) => x + y);`);
  const [{ documentation, schema }] = module.tasks;
  assert.equal(documentation, 'Adds two numbers.\n\nAs one learns it.');
  assert.deepEqual(schema.parameters.map((parameter) => parameter.schema.description), ['the first', 'the second']);
});

test('JavaScript has the names of its parameters, and the types of its JSDoc', async () => {
  const text = `
    /**
     * @typedef {object} Item
     * @property {string} name
     * @property {number} [price]
     */
    /** Joins. @param {Item[]} items @param {string} [by] @returns {string} */
    function join(items, by = ', ') { return items.map((item) => item.name).join(by); }
    task(join);
    task('plain', (x, y = 2, { z }) => [x, y, z]);`;
  const module = await loadText(text, 'tasks.mjs');
  const [join, plain] = module.tasks;
  assert.deepEqual(join.schema.parameters[0].schema.items, { type: 'object', properties: { name: string, price: number }, required: ['name'] });
  assert.deepEqual(plain.schema.parameters.map(({ name, required }) => [name, required]), [['x', true], ['y', false], ['options', true]]);
});

test('a small schema replaces what the source says', async () => {
  const module = await loadText("task('t', { parameters: { x: 'integer', 'when?': 'date', raw: { type: 'object', required: ['a'] } }, result: 'bytes', documentation: 'By hand.' }, (x, when, raw) => [x, when, raw]);", 'tasks.js');
  const [{ schema, documentation }] = module.tasks;
  assert.equal(documentation, 'By hand.');
  assert.deepEqual(schema.parameters.map(({ name, required, schema: each }) => [name, required, each]), [
    ['x', true, { type: 'integer' }], ['when', false, { anyOf: [{ type: 'string', format: 'date-time' }, { type: 'null' }] }], ['raw', true, { type: 'object', required: ['a'] }]]);
});

test('a second task of a name is refused with the place of the first', async () => {
  const text = "import { task } from 'fastworker';\nconst name = 'a';\ntask('a', () => 1);\ntask(name, () => 2);";
  await assert.rejects(loadText(text), (error) => error.message === "task 'a': another task has this name, at tasks.ts:3: rename one of them");
});

test('a rest parameter is warned of, and the task checks its arguments', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'fastworker-test-'));
  const entry = join(folder, 'tasks.ts');
  writeFileSync(entry, "import { task } from 'fastworker';\ntask('t', (x: string, ...more: number[]) => [x, more]);\ntask('u', (x: string, more: number[] = []) => [x, more]);");
  const ts = await createImporter([])('typescript');
  const report = new Report();
  findTasks(ts, createProgram(ts, entry).program, report);
  rmSync(folder, { recursive: true });
  assert.deepEqual(report.warnings.map(({ text, at }) => [text.split(':')[0], at.split(':').at(-2)]), [['...more has no form in the contract', '2']]);
});

test('the name of a parameter that is taken apart is a usual one', async () => {
  const { parameters } = await signatureOf("task('t', ({ a }: { a: number }, [b]: number[], options4: string, { c }: { c: string }) => [a, b, options4, c]);");
  assert.deepEqual(parameters.map(({ name }) => name), ['options1', 'items2', 'options4', 'options4_']);
});

test('types without a JSON form are refused with their place', async () => {
  for (const [parameters, result, type] of [['x: RegExp', 'null', 'RegExp'], ['x: () => void', 'null', '() => void'], ['x: { f: () => void }', 'null', '{ f: () => void; }'],
    ['x: Map<number, string>', 'null', 'Map<number, string>'], ['x: Point', 'null', 'Point'], ['', '() => 1', '() => 1'], ['x: symbol', 'null', 'symbol'], ['x: Promise<number>[]', 'null', 'Promise<number>']]) {
    const loading = loadText(`class Point { x = 1; length() { return 1; } }\ntask('t', (${parameters}) => ${result});`);
    await assert.rejects(loading, (error) => error.message.startsWith(`${type} cannot be`) && /tasks\.ts:3:1$/.test(error.at), `${type}`);
  }
});

test('methods of a class are no part of a result', async () => {
  const { result } = await signatureOf("class Point { constructor(readonly x: number, private y: number) {} length() { return this.y; } }\ntask('t', () => new Point(1, 2));");
  assert.deepEqual(result.schema, { type: 'object', properties: { x: number }, required: ['x'] });
});
