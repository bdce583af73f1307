// Finds the packages with which a build works: in the project, or in the folder into which fastworker installs them.

import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { BuildError } from './report.mjs';

/** The folders of tools: those that were given, then those that fastworker installed, the newest first. */
function folders(given) {
  if (given.length > 0) return given;
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
  const root = process.env.FASTWORKER_TOOLS || join(cache, 'fastworker', 'tools');
  const installed = existsSync(root) ? readdirSync(root).filter((name) => name.startsWith('componentize-qjs-')) : [];
  return installed.sort().reverse().map((name) => join(root, name));
}

/**
 * Returns a function that imports a package of the tools.
 *
 * @param {string[]} given folders with `node_modules`; none for those that fastworker installed
 * @param {string} [project] a folder whose own packages come first
 */
export function createImporter(given, project) {
  const roots = [...(project === undefined ? [] : [project]), ...folders(given)];
  return async (name) => {
    const path = roots.map((root) => findPackage(root, name)).find((found) => found !== undefined);
    if (path === undefined) throw new MissingTool(name);
    const loaded = await import(pathToFileURL(path).href);
    return loaded.default ?? loaded;
  };
}

/** A package with which a build works, and which is nowhere. */
export class MissingTool extends BuildError {
  constructor(name) {
    super(`the package ${name} is not installed`, { hint: 'fastworker build --install installs it' });
    this.tool = name;
  }
}

function findPackage(root, name) {
  try {
    return createRequire(join(root, 'package.json')).resolve(name);
  } catch {
    // A package without a form for `require` is not found that way.
    const folder = join(root, 'node_modules', name);
    const file = join(folder, 'package.json');
    return existsSync(file) ? join(folder, mainOf(JSON.parse(readFileSync(file, 'utf8')))) : undefined;
  }
}

function mainOf({ exports, main }) {
  let target = exports?.['.'] ?? exports;
  while (target !== null && typeof target === 'object') target = target.import ?? target.default;
  return target ?? main ?? 'index.js';
}
