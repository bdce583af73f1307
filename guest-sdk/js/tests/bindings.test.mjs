import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { CONTRACT, generate } from '../bindings/generate.mjs';
import { sdk } from '../build/program.mjs';
import { createImporter } from '../build/tools.mjs';

test('the bindings are those of the contract', () => {
  const folder = fileURLToPath(new URL('../bindings/', import.meta.url));
  const generated = generate(readFileSync(CONTRACT, 'utf8'));
  assert.deepEqual(readdirSync(folder).filter((name) => name.endsWith('.d.ts')).sort(), [...generated.keys()].sort());
  for (const [name, text] of generated) {
    assert.equal(readFileSync(join(folder, name), 'utf8'), text, `bindings/${name} is out of date: run node bindings/generate.mjs`);
  }
});

test('the SDK has the types that the bindings and its own declarations say', async () => {
  const ts = await createImporter([])('typescript');
  const roots = ['src/connect.js', 'src/index.d.ts', 'src/testing.d.ts', 'src/assets.d.ts', 'bindings/fastworker-task-host.d.ts', 'bindings/fastworker-task-tasks.d.ts', 'tests/wasi.d.ts'];
  const program = ts.createProgram(roots.map((name) => join(sdk, name)), {
    allowJs: true, checkJs: true, noEmit: true, strictNullChecks: true, target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext, lib: ['lib.es2023.d.ts', 'lib.dom.d.ts'], types: [], skipLibCheck: false,
  });
  const errors = ts.getPreEmitDiagnostics(program).filter((each) => each.file === undefined || /src\/(connect|module|host|context|run)\.js$|\.d\.ts$/.test(each.file.fileName));
  const text = ts.formatDiagnostics(errors, { getCurrentDirectory: () => sdk, getCanonicalFileName: (name) => name, getNewLine: () => '\n' });
  assert.equal(text, '');
});
