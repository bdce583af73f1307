// Finds the file with which a project begins.

import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';

import { BuildError } from './report.mjs';

const TYPESCRIPT = ['src/index.ts', 'src/tasks.ts', 'tasks.ts', 'index.ts', 'src/main.ts', 'main.ts'];
const JAVASCRIPT = TYPESCRIPT.flatMap((path) => [path.replace(/ts$/, 'js'), path.replace(/ts$/, 'mjs')]);

/**
 * Returns the absolute path of the entry.
 *
 * @param {string} path a file or a folder
 */
export function findEntry(path) {
  const absolute = resolve(path);
  if (!existsSync(absolute)) throw new BuildError(`there is no file or folder ${path}`);
  if (statSync(absolute).isFile()) return absolute;
  const main = readMain(absolute);
  // `main` of a TypeScript project often names what tsc writes.
  const order = main === undefined || /\.[cm]?tsx?$/.test(main) ? [main, ...TYPESCRIPT, ...JAVASCRIPT] : [...TYPESCRIPT, main, ...JAVASCRIPT];
  const found = order.filter((name) => name !== undefined).map((name) => join(absolute, name)).find((file) => existsSync(file) && statSync(file).isFile());
  if (found !== undefined) return found;
  throw new BuildError(`${path} has no entry`, { hint: 'name it by "main" in package.json, or write src/tasks.ts' });
}

function readMain(folder) {
  const { main } = readManifest(folder);
  return typeof main === 'string' ? main : undefined;
}

/**
 * Returns the engine that the author asks for: by a comment `// @engine complete` in the entry, or by `"fastworker":
 * { "engine": "complete" }` in the package.json around it.
 *
 * @returns {'small' | 'complete' | undefined}
 */
export function engineOf(entry) {
  const comment = /^\s*(?:\/\/|\/?\*+)\s*@engine\s+(\w+)/m.exec(readFileSync(entry, 'utf8'))?.[1];
  if (comment === 'small' || comment === 'complete') return comment;
  if (comment !== undefined) throw new BuildError(`${entry}: the engine is ${comment}, and should be small or complete`);
  for (let folder = dirname(entry); ; folder = dirname(folder)) {
    const { engine } = readManifest(folder).fastworker ?? {};
    if (engine === undefined && !existsSync(join(folder, 'package.json')) && folder !== dirname(folder)) continue;
    if (engine === undefined || engine === 'small' || engine === 'complete') return engine;
    throw new BuildError(`${join(folder, 'package.json')}: the engine is ${JSON.stringify(engine)}, and should be "small" or "complete"`);
  }
}

function readManifest(folder) {
  const path = join(folder, 'package.json');
  if (!existsSync(path)) return {};
  try {
    const manifest = JSON.parse(readFileSync(path, 'utf8'));
    return manifest !== null && typeof manifest === 'object' ? manifest : {};
  } catch (error) {
    throw new BuildError(`${path} cannot be read: ${error.message}`);
  }
}
