import assert from 'node:assert/strict';
import { test } from 'node:test';

import { BadArguments, GiveUp, Retry, current, submit, task } from '../src/index.js';
import { loadText } from './support.mjs';

const failure = async (module, name, args = [], kwargs = {}) => (await module.run(name, { args, kwargs })).error;

test('arguments are assigned by position and by name', async () => {
  const module = await loadText("task('f', (x: number, y: number, z = 3) => [x, y, z]); task('rest', (x: string, ...more: number[]) => [x, more]);");
  assert.deepEqual(await module.call('f', [1], { y: 2 }), [1, 2, 3]);
  assert.deepEqual(await module.call('f', [], { z: 1, y: 2, x: 3 }), [3, 2, 1]);
  assert.deepEqual(await module.call('f', [1, 2, null]), [1, 2, 3]);
  assert.deepEqual(await module.call('rest', ['a', 1, 2]), ['a', [1, 2]]);
  assert.deepEqual(await module.call('rest', [], { x: 'a', more: [1] }), ['a', [1]]);
  for (const [args, kwargs, message] of [
    [[1], {}, "f() missing 1 required argument: 'y'"],
    [[], {}, "f() missing 2 required arguments: 'x' and 'y'"],
    [[1, 2, 3, 4], {}, 'f() takes from 2 to 3 arguments but 4 were given'],
    [[1, 2], { q: 1 }, "f() got an unexpected keyword argument 'q'"],
    [[1, 2], { x: 1 }, "f() got multiple values for argument 'x'"],
    [['1', 2], {}, 'args[0]: expected number, found string "1"'],
    [[1], { y: null }, 'kwargs.y: expected number, found null'],
  ]) assert.deepEqual(await failure(module, 'f', args, kwargs), { outcome: 'bad-arguments', message, kind: '' });
  assert.equal((await failure(module, 'rest', ['a', 1, 'b'])).message, 'args[2]: expected number, found string "b"');
  assert.equal((await failure(module, 'nothing')).message, "this module has no task 'nothing'");
});

test('arguments get their JavaScript form, and wrong ones name their path', async () => {
  const module = await loadText(`
    interface Circle { kind: 'circle'; r: number } interface Square { kind: 'square'; side: number }
    task('forms', (d: Date, b: bigint, m: Map<string, Date>, s: Set<number>, u: Uint8Array) => [d instanceof Date, typeof b, m.get('a') instanceof Date, s.has(1), [...u]]);
    task('shape', (shape: Circle | Square) => shape.kind);
    task('list', (x: { items: {
/** @minimum 0 */ price: number }[] } | null) => x);
    task('any', (x: any) => x);`);
  const forms = ['2026-01-01T00:00:00Z', 1, { a: '2026-01-01T00:00:00Z' }, [1], 'AQI='];
  assert.deepEqual(await module.call('forms', forms), [true, 'bigint', true, true, [1, 2]]);
  assert.deepEqual(await module.call('forms', [...forms.slice(0, 4), [1, 2]]), [true, 'bigint', true, true, [1, 2]]);
  assert.deepEqual(await module.call('any', [JSON.parse('{"__proto__": {"a": 1}}')]), JSON.parse('{"__proto__": {"a": 1}}'));
  for (const [name, value, message] of [
    ['shape', { kind: 'circle', r: 'x' }, 'args[0].r: expected number, found string "x"'],
    ['shape', { kind: 'line' }, 'args[0].kind: expected "circle" or "square", found string "line"'],
    ['shape', 3, 'args[0]: expected object, found number 3'],
    ['list', { items: [{ price: 1 }, { price: -1 }] }, 'args[0].items[1].price: expected number of at least 0, found number -1'],
    ['list', { items: [{}] }, 'args[0].items[0].price: expected number, found nothing'],
    ['any', { a: [9007199254740993n] }, 'args[0].a[0]: expected a number that JavaScript does not round (declare it as bigint, or pass a string), found number 9007199254740993'],
  ]) assert.equal((await failure(module, name, [value])).message, message);
});

test('what a task throws becomes its failure', async () => {
  const module = await loadText(`import { task, BadArguments, GiveUp, Retry, TaskError } from 'fastworker';
    class Closed extends GiveUp {} class Mine extends Error {}
    const thrown: Record<string, () => unknown> = {
      type: () => new TypeError('no x'), plain: () => new Error('plain'), mine: () => new Mine('m'), empty: () => new Error(),
      text: () => 'text', nothing: () => undefined, object: () => ({ a: 1 }),
      cause: () => new Error('cannot read', { cause: new SyntaxError('not JSON') }), all: () => new AggregateError([new Error('a'), new TypeError('b')], 'both'),
      bad: () => new BadArguments('no'), give: () => new GiveUp('closed', { kind: 'Closed', details: { id: 1 } }), closed: () => new Closed('c'),
      retry: () => new Retry('busy', { after: '1m 30s' }), kind: () => new TaskError('t', { kind: 'T', details: 1n }),
    };
    task('fail', (kind: string) => { throw thrown[kind](); });
    task('reject', async (kind: string) => { await null; throw thrown[kind](); });
    task('later', async () => 7);`);
  const expected = {
    type: ['failed', 'TypeError: no x', 'TypeError'], plain: ['failed', 'plain', 'Error'], mine: ['failed', 'Mine: m', 'Mine'], empty: ['failed', 'Error', 'Error'],
    text: ['failed', 'text', ''], nothing: ['failed', 'the task threw undefined', ''], object: ['failed', 'the task threw { a: 1 }', ''],
    cause: ['failed', 'cannot read: SyntaxError: not JSON', 'Error'], all: ['failed', 'AggregateError: both: a; TypeError: b', 'AggregateError'],
    bad: ['bad-arguments', 'no', ''], give: ['give-up', 'closed', 'Closed'], closed: ['give-up', 'Closed: c', 'Closed'], retry: ['try-again-after', 'busy', ''], kind: ['failed', 't', 'T'],
  };
  for (const name of ['fail', 'reject']) {
    for (const [kind, [outcome, message, kindOfError]] of Object.entries(expected)) {
      const { error, logs } = await module.run(name, { args: [kind] });
      assert.deepEqual([error.outcome, error.message, error.kind], [outcome, message, kindOfError], `${name} ${kind}`);
      assert.equal(logs.length, outcome === 'failed' ? 1 : 0, kind);
    }
  }
  assert.equal((await module.run('fail', { args: ['retry'] })).error.delay, 90);
  assert.deepEqual((await module.run('fail', { args: ['give'] })).error.details, { id: 1 });
  assert.match((await module.run('fail', { args: ['mine'] })).logs[0].message, /^Mine: m\n\s+at .*tasks\.ts:\d+/);
  assert.equal(await module.call('later'), 7);
});

test('a running task talks to its host', async () => {
  const module = await loadText(`import { task, current, isCancelled, log, progress, submit } from 'fastworker';
    export const add = task('add', (x: number, y: number) => x + y);
    task('all', () => {
      progress(1, 2, 'half');
      log.warn('careful', { a: 1n }); console.log('%s has %d %%', 'ada', '3', [new Map([['x', 1]])]); console.error(new Date(0));
      return [submit('next', [1, { b: 2n }], { kwargs: { c: 3 }, countdown: '5s', maxRetries: 1 }), submit(add, [1, 2]), current().attempt, current().tags, isCancelled(), isCancelled()];
    });
    task('bad', () => submit('x', [], { priorty: 'low' } as any));`);
  const { result, logs, progress, followUps } = await module.run('all', { attempt: 3, metadata: { tags: ['a'] }, cancelledAfter: 1 });
  assert.deepEqual(result.slice(2), [3, ['a'], false, true]);
  assert.deepEqual(progress, [{ done: 1, total: 2, message: 'half' }]);
  assert.deepEqual(logs.map(({ level, message }) => `${level} ${message}`), ['warn careful { a: 1n }', 'info ada has 3 % [ Map(1) { "x" => 1 } ]', 'error 1970-01-01T00:00:00.000Z']);
  assert.deepEqual(followUps.map(({ name, args, kwargs, options }) => [name, args, kwargs, options]), [
    ['next', [1, { b: 2 }], { c: 3 }, { max_retries: 1, countdown: 5 }], ['add', [1, 2], {}, {}]]);
  assert.equal((await module.run('bad')).error.message, 'TypeError: submit() has no option priorty; did you mean priority?');
});

test('options are the policy, and wrong ones say what is right', async () => {
  const module = await loadText("task('t', { priority: 'high', timeout: '1m 30s', maxRetries: 2, retryDelay: 1, retryBackoff: 2, retryBackoffMax: '1h', cron: '0 9 * * *', tz: 'Europe/Paris', overlap: 'queue', count: 3, until: new Date(0) }, () => 1);");
  assert.deepEqual(module.tasks[0].policy, { priority: 'high', timeout: 90, max_retries: 2, retry_delay: 1, retry_backoff: 2, retry_backoff_max: 3600,
    cron: '0 9 * * *', tz: 'Europe/Paris', overlap: 'queue', count: 3, until: '1970-01-01T00:00:00.000Z' });
  for (const [options, message] of [
    [{ maxRetry: 1 }, /no option maxRetry; did you mean maxRetries\?/], [{ timeout: 0 }, /timeout of zero/], [{ timeout: '30' }, /"30" is not a duration/],
    [{ timeout: '11000d' }, /ten years/], [{ priority: 'urgent' }, /none of critical, high, normal, low/], [{ maxRetries: -1 }, /whole number from 0/],
    [{ retryBackoff: 0.5 }, /at least 1/], [{ every: '50ms' }, /minimum interval/], [{ every: 1, cron: '@daily' }, /exclude each other/], [{ tz: 'UTC', every: 1 }, /tz applies to cron/],
    [{ count: 1 }, /needs every or cron/], [{ cron: '0 9 * *' }, /five fields/], [{ every: 1, until: 'soon' }, /not a time/], [{ every: 1, overlap: 'both' }, /none of skip, queue/],
    [{ parameters: { x: 'int' } }, /no type int; did you mean/], [{ every: 1, parameters: { x: 'integer' } }, /a schedule passes no arguments/],
  ]) assert.throws(() => task('wrong', options, () => 1), message);
  assert.throws(() => task('x'.repeat(129), () => 1), /at most 128 bytes/);
  assert.throws(() => task('a\nb', () => 1), /control characters/);
  assert.throws(() => task(() => 1), /needs a name/);
  assert.throws(() => task('a', 1), /takes a function/);
  task('once', () => 1);
  assert.throws(() => task('once', () => 1), /another task has this name: rename one of them/);
});

test('needs and limits are in the policy, and wrong ones say what is right', async () => {
  const module = await loadText("task('t', { needs: ['http:api.example.com', 'secret:KEY'], maxMemory: '64 MiB', maxCpuTime: '500ms', maxHostTime: 90, maxOutput: '1.5KiB', maxLog: 2048, maxResult: '1 GiB', maxConnections: 4, maxReceived: '10 TiB', maxSent: '500 B' }, () => 1);");
  assert.deepEqual(module.tasks[0].policy, { needs: ['http:api.example.com', 'secret:KEY'], max_memory: 67108864, max_cpu_time: 0.5, max_host_time: 90,
    max_output: 1536, max_log: 2048, max_result: 1073741824, max_connections: 4, max_received: 10995116277760, max_sent: 500 });
  for (const [options, message] of [
    [{ maxMemory: '64MB' }, /maxMemory: "64MB" is not a size; write bytes/], [{ maxMemory: '64' }, /not a size/], [{ maxLog: 1.5 }, /not a size/], [{ maxLog: true }, /not a size/],
    [{ maxOutput: 0 }, /more than zero/], [{ maxSent: -1 }, /not a size/], [{ maxReceived: '0 B' }, /more than zero/], [{ maxCpuTime: 'soon' }, /not a duration/],
    [{ maxHostTime: 0 }, /more than zero/], [{ maxConnections: 0 }, /from 1 to 4294967295/], [{ maxConnections: '4' }, /from 1/], [{ maxMem: 1 }, /no option maxMem; did you mean maxMemory\?/],
    [{ needs: 'env:A' }, /takes a list of grants/], [{ needs: ['disk'] }, /"disk" names no grant/], [{ needs: ['env:'] }, /names no grant/], [{ needs: [1] }, /1 names no grant/],
    [{ needs: Array(101).fill('env:A') }, /at most 100/],
  ]) assert.throws(() => task('wrong', options, () => 1), message);
  const submitting = await loadText("import { submit, task } from 'fastworker';\ntask('t', () => submit('x', [], { maxMemory: 1 } as any));");
  assert.match((await submitting.run('t')).error.message, /submit\(\) has no option maxMemory/);
});

test('outside of a task there is no host', () => {
  assert.throws(() => current(), /works only while a task runs/);
  assert.throws(() => submit('x'), /works only while a task runs/);
  assert.equal(new Retry('x', { after: 2 }).after, 2);
  assert.equal(new GiveUp('x').name, 'GiveUp');
  assert.ok(new BadArguments('x') instanceof Error);
});
