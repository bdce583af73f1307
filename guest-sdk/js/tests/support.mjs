// Tools for the tests: those that FASTWORKER_JS_TOOLS names, or those that fastworker installed.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { load } from '../src/testing.js';

/** Loads tasks from the text of a file. */
export async function loadText(text, name = 'tasks.ts') {
  const folder = mkdtempSync(join(tmpdir(), 'fastworker-test-'));
  try {
    writeFileSync(join(folder, name), text.includes("from 'fastworker'") ? text : `import { task } from 'fastworker';\n${text}`);
    return await load(join(folder, name));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Loads one task and returns its parameters and its result. */
export async function signatureOf(text, name) {
  const module = await loadText(text, name);
  return module.tasks[0].schema;
}
