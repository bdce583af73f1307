// Builds a task module from TypeScript or JavaScript: what `fastworker build` runs.
//
//     node build.mjs --out x.wasm --wit FOLDER [--engine small|complete] [--tools FOLDER]… PATH
//
// It prints one JSON object a line: {"step"}, {"warning", "at"}, {"note", "at"}, and last {"built"}, {"missing"} or
// {"errors"}. The author's code runs in the sandbox of the engine only, never in Node.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

import { bundle } from './bundle.mjs';
import { componentize } from './componentize.mjs';
import { reasonForComplete } from './engine.mjs';
import { engineOf, findEntry } from './entry.mjs';
import { createProgram, sdk, typeErrors } from './program.mjs';
import { BuildError, printed } from './report.mjs';
import { findTasks } from './signature.mjs';
import { MissingTool, createImporter } from './tools.mjs';

/** Type errors that are printed. */
const TYPE_ERRORS_MAX = 20;

/**
 * @typedef {object} BuildOptions
 * @property {string} path the entry, or a folder
 * @property {string} wit the folder of the world
 * @property {'small' | 'complete'} [engine] by default the build decides
 * @property {string[]} tools
 * @property {typeof printed} report
 */

/**
 * Returns the component, or the engine that is missing.
 *
 * @param {BuildOptions} options
 */
export async function build({ path, wit, engine: wanted, tools, report }) {
  const importTool = createImporter(tools);
  const entry = findEntry(path);
  const asked = wanted ?? engineOf(entry);
  const [ts, esbuild] = [await importTool('typescript'), await importTool('esbuild')];
  report.step('read the types');
  const { program } = createProgram(ts, entry);
  const tasks = findTasks(ts, program, report);
  report.step('bundle');
  const { code, places, files, warnings } = await bundle(esbuild, { entry, start: START, tasks, resolveSdk });
  warnings.forEach((warning) => report.warn(warning.text, warning.at));
  if (tasks.length === 0) throw noTasks(path);
  reportTypeErrors(ts, program, report);
  const reason = reasonForComplete(ts, program, tasks, files, report);
  const engine = asked ?? (reason === undefined ? 'small' : 'complete');
  if (asked === 'small' && reason !== undefined) report.warn(`the small engine cannot do everything that this code does: ${reason}`);
  const why = asked === undefined ? reason : 'it was asked for';
  report.step(engine === 'small' ? 'componentize (QuickJS)' : `componentize (StarlingMonkey: ${why})`);
  try {
    const component = await componentize(engine, importTool, { code: withEngine(code, engine) + places, wit, usesFetch: /\bfetch\b/.test(code) });
    return { component, engine, reason: why };
  } catch (error) {
    if (error instanceof MissingTool) return { missing: engine, reason: why };
    throw error;
  }
}

// The imports of the module are connected before the author's code runs.
const START = "import 'fastworker:connect';\nimport 'fastworker:author';\nexport { tasks } from 'fastworker/module';\n";

// The engine is known after bundling only. On the first line, so that no line moves.
function withEngine(code, engine) {
  return `globalThis[Symbol.for("fastworker.engine")] = ${JSON.stringify(engine)};${code}`;
}

function resolveSdk(path) {
  const files = { fastworker: 'src/index.js', 'fastworker/module': 'src/module.js', 'fastworker:connect': 'src/connect.js' };
  if (Object.hasOwn(files, path)) return { path: join(sdk, files[path]) };
  if (/^(fastworker|wasi):/.test(path)) return { path, external: true };
  if (path === 'fastworker/testing') {
    return { errors: [{ text: 'fastworker/testing works in tests, under Node; a module cannot import it', notes: [{ text: 'import it in the test only' }] }] };
  }
  return { errors: [{ text: `fastworker has no ${path}` }] };
}

function noTasks(path) {
  return new BuildError(`${path} registers no task`, {
    hint: "import { task } from 'fastworker'; task('add', (x: number, y: number) => x + y);",
  });
}

function reportTypeErrors(ts, program, report) {
  const errors = typeErrors(ts, program);
  for (const { text, code, at } of errors.slice(0, TYPE_ERRORS_MAX)) report.warn(`TS${code}: ${text}`, at);
  if (errors.length > TYPE_ERRORS_MAX) report.warn(`${errors.length - TYPE_ERRORS_MAX} more type errors`);
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      out: { type: 'string' },
      wit: { type: 'string' },
      engine: { type: 'string' },
      tools: { type: 'string', multiple: true },
    },
  });
  try {
    const result = await build({ path: positionals[0], wit: values.wit, engine: values.engine, tools: values.tools ?? [], report: printed });
    if (result.component !== undefined) writeFileSync(values.out, result.component);
    printed.end(result.component === undefined ? result : { built: values.out, engine: result.engine, reason: result.reason });
  } catch (error) {
    if (!(error instanceof BuildError)) throw error;
    printed.end({ errors: error.errors ?? [{ text: error.message, at: error.at, hint: error.hint }] });
    process.exitCode = 1;
  }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) await main();
