import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { warnOfFloating } from '../build/floating.mjs';
import { createProgram } from '../build/program.mjs';
import { Report } from '../build/report.mjs';
import { createImporter } from '../build/tools.mjs';

const ts = await createImporter([])('typescript');

/** The lines of the warnings for statements of an async function. */
function warned(statements) {
  const folder = mkdtempSync(join(tmpdir(), 'fastworker-test-'));
  try {
    const entry = join(folder, 'tasks.ts');
    writeFileSync(entry, `declare const p: Promise<number>; declare const any: any; declare function f(): Promise<void>;\nasync function t(c: boolean) {\n${statements.join('\n')}\n}\n`);
    const report = new Report();
    warnOfFloating(ts, createProgram(ts, entry).program, new Set([entry]), report);
    return report.warnings.map(({ at }) => Number(at.split(':').at(-2)) - 3);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test('promises that nothing awaits are warned of', () => {
  const floating = ['f();', 'Promise.reject(new Error());', 'p.then(() => 1);', 'p;', 'c && f();', 'c ? f() : 1;', '(async () => { throw 1; })();', 'p.finally(f);', '(f());', 'new Promise(() => {});'];
  assert.deepEqual(warned(floating), floating.map((_, index) => index));
});

test('promises that are awaited, handled or meant so are not warned of', () => {
  const fine = ['await f();', 'void f();', 'p.catch(() => 1);', 'p.then(() => 1, () => 2);', 'p.catch(() => 1).finally(f);', 'const x = f();', 'any.call();', 'console.log(p);', 'await Promise.all([f()]);', 'setTimeout(f, 1);', 'return f();'];
  assert.deepEqual(warned(fine), []);
});
