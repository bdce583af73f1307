// Builds a task module from TypeScript or JavaScript: what `fastworker build` runs, in two steps.
//
//     node build.mjs bundle --out module.js --tools FOLDER PATH
//     node build.mjs componentize --engine small|complete [--fetch] --out x.wasm --wit FOLDER --tools FOLDER module.js
//
// Each prints one JSON object: of `bundle` {"engine", "reason", "fetches", "warnings"}, or {"errors"} and exit code 1.
// The author's code runs in the sandbox of the engine only, never in Node.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

import { bundle } from './bundle.mjs';
import { componentize } from './componentize.mjs';
import { needsOf } from './engine.mjs';
import { engineOf, findEntry } from './entry.mjs';
import { warnOfFloating } from './floating.mjs';
import { createProgram, sdk, typeErrors } from './program.mjs';
import { BuildError, Report } from './report.mjs';
import { findTasks } from './signature.mjs';
import { createImporter } from './tools.mjs';

/** Maximum type errors that are reported. */
const TYPE_ERRORS_MAX = 20;
// The imports of the module are connected before the author's code runs.
const START = "import 'fastworker:connect';\nimport 'fastworker:author';\nexport { tasks } from 'fastworker/module';\n";

/**
 * Bundles the author's code for an engine.
 *
 * @param {string} path the entry, or the folder of a project
 * @param {string[]} tools folders with esbuild and typescript
 * @returns {Promise<{ code: string, engine: 'small' | 'complete', reason?: string, fetches: boolean, warnings: object[] }>}
 */
export async function bundleModule(path, tools) {
  const importTool = createImporter(tools);
  const report = new Report();
  const entry = findEntry(path);
  const [ts, esbuild] = [await importTool('typescript'), await importTool('esbuild')];
  const { program } = createProgram(ts, entry);
  const tasks = findTasks(ts, program, report);
  const { code, places, files, warnings } = await bundle(esbuild, { entry, start: START, tasks, resolveSdk });
  warnings.forEach((warning) => report.warn(warning.text, warning.at));
  if (tasks.length === 0) throw noTasks();
  reportTypeErrors(ts, program, report);
  warnOfFloating(ts, program, files, report);
  const asked = engineOf(entry);
  const { reason: needed, fetches } = needsOf(ts, program, tasks, files, report);
  const engine = asked ?? (needed === undefined ? 'small' : 'complete');
  if (asked === 'small' && needed !== undefined) report.warn(`${needed}, which the small engine cannot run`);
  const reason = asked === undefined ? needed : 'the source asks for it';
  return { code: withEngine(code, engine) + places, engine, reason, fetches, warnings: report.warnings };
}

// On the first line, so that no other line moves.
function withEngine(code, engine) {
  return `globalThis[Symbol.for("fastworker.engine")] = ${JSON.stringify(engine)};${code}`;
}

function resolveSdk(path) {
  const files = { fastworker: 'src/index.js', 'fastworker/module': 'src/module.js', 'fastworker:connect': 'src/connect.js' };
  if (Object.hasOwn(files, path)) return { path: join(sdk, files[path]) };
  if (/^(fastworker|wasi):/.test(path)) return { path, external: true };
  if (path !== 'fastworker/testing') return { errors: [{ text: `fastworker has no ${path}` }] };
  const text = 'fastworker/testing works in tests, under Node; a module cannot import it';
  return { errors: [{ text, notes: [{ text: 'import it in the test only' }] }] };
}

function noTasks() {
  return new BuildError('no task is registered', {
    hint: "register one: import { task } from 'fastworker'; task('add', (x: number, y: number) => x + y)",
  });
}

function reportTypeErrors(ts, program, report) {
  const errors = typeErrors(ts, program);
  for (const { text, code, at } of errors.slice(0, TYPE_ERRORS_MAX)) report.warn(`TS${code}: ${text}`, at);
  if (errors.length > TYPE_ERRORS_MAX) report.warn(`${errors.length - TYPE_ERRORS_MAX} more type errors`);
}

async function main() {
  const { values, positionals: [step, path] } = parseArgs({
    allowPositionals: true,
    options: {
      out: { type: 'string' },
      wit: { type: 'string' },
      engine: { type: 'string' },
      fetch: { type: 'boolean' },
      tools: { type: 'string', multiple: true },
    },
  });
  if (step === 'bundle') {
    const { code, ...result } = await bundleModule(path, values.tools);
    writeFileSync(values.out, code);
    return result;
  }
  const code = readFileSync(path, 'utf8');
  const what = { code, wit: values.wit, fetches: values.fetch ?? false };
  writeFileSync(values.out, await componentize(values.engine, createImporter(values.tools), what));
  return {};
}

async function run() {
  try {
    return await main();
  } catch (error) {
    if (!(error instanceof BuildError)) throw error;
    process.exitCode = 1;
    return { errors: error.errors ?? [{ text: error.message, at: error.at, hint: error.hint }] };
  }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  process.stdout.write(`${JSON.stringify(await run())}\n`);
}
