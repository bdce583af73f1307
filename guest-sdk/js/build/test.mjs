// Bundles a file with tasks for `fastworker/testing`: as the build does, but for Node.

import { dirname } from 'node:path';
import { pathToFileURL } from 'node:url';

import { bundle } from './bundle.mjs';
import { createProgram } from './program.mjs';
import { Report } from './report.mjs';
import { findTasks } from './signature.mjs';
import { createImporter } from './tools.mjs';

/**
 * @param {string} entry
 * @param {(name: string) => string} urlOf the URL of a file of the SDK: the instance that runs the test
 */
export async function bundleForTest(entry, urlOf) {
  const importTool = createImporter([], dirname(entry));
  const [ts, esbuild] = [await importTool('typescript'), await importTool('esbuild')];
  const { program } = createProgram(ts, entry);
  const tasks = findTasks(ts, program, new Report());
  const resolveSdk = (path) => ({ path: urlOf(path === 'fastworker/testing' ? 'testing.js' : 'index.js'), external: true });
  const start = "import * as author from 'fastworker:author';\nexport * from 'fastworker:author';\nexport default author.default;\n";
  const { code, map } = await bundle(esbuild, { entry, start, tasks, resolveSdk });
  const sources = JSON.parse(map);
  sources.sourceRoot = pathToFileURL(dirname(entry)).href;
  return `${code}\n//# sourceMappingURL=data:application/json;base64,${Buffer.from(JSON.stringify(sources)).toString('base64')}\n`;
}
