// Bundles the author's code with its packages and the SDK, by esbuild.

import { builtinModules, SourceMap } from 'node:module';
import { dirname, extname, join, relative, resolve } from 'node:path';

import { aboutNodeModule } from './globals.mjs';
import { sdk } from './program.mjs';
import { BuildErrors } from './report.mjs';
import { withSignatures } from './signature.mjs';

/** Files that are imported as text. */
const TEXT = ['.txt', '.html', '.md', '.csv', '.css', '.xml', '.svg', '.sql', '.mustache', '.hbs', '.ejs', '.liquid', '.graphql', '.yaml', '.yml', '.toml'];
const LOADERS = { '.ts': 'ts', '.mts': 'ts', '.cts': 'ts', '.tsx': 'tsx', '.jsx': 'jsx' };

/**
 * @typedef {object} Bundle
 * @property {string} code
 * @property {string} places a last line for the code, which tells where its other lines come from
 * @property {string} map a source map
 * @property {Set<string>} files the absolute paths of what is in it
 * @property {{ text: string, at?: string }[]} warnings
 */

/**
 * @param {typeof import('esbuild')} esbuild
 * @param {object} what
 * @param {string} what.entry
 * @param {string} what.start the source of the file that imports the entry as `fastworker:author`
 * @param {import('./signature.mjs').FoundTask[]} what.tasks
 * @param {(path: string) => { path?: string, external?: boolean } | undefined} what.resolveSdk
 * @returns {Promise<Bundle>}
 */
export async function bundle(esbuild, { entry, start, tasks, resolveSdk }) {
  const root = dirname(entry);
  const options = {
    stdin: { contents: start, resolveDir: root, sourcefile: 'fastworker-module.js', loader: 'js' },
    absWorkingDir: root,
    bundle: true,
    write: false,
    outfile: 'module.js',
    metafile: true,
    sourcemap: 'external',
    sourcesContent: false,
    format: 'esm',
    platform: 'neutral',
    target: 'es2022',
    mainFields: ['browser', 'module', 'main'],
    conditions: ['browser', 'module'],
    charset: 'utf8',
    legalComments: 'none',
    logLevel: 'silent',
    define: { 'process.env.NODE_ENV': '"production"', global: 'globalThis' },
    supported: { 'top-level-await': false },
    loader: Object.fromEntries(TEXT.map((extension) => [extension, 'text'])),
    plugins: [author(entry, tasks, resolveSdk)],
  };
  let result;
  try {
    result = await esbuild.build(options);
  } catch (error) {
    if (!Array.isArray(error.errors)) throw error;
    throw new BuildErrors(error.errors.map((each) => explain(each, root)));
  }
  const code = result.outputFiles.find((file) => file.path.endsWith('.js')).text;
  const map = result.outputFiles.find((file) => file.path.endsWith('.map')).text;
  return {
    code,
    places: placesLine(code, JSON.parse(map)),
    map,
    files: new Set(Object.keys(result.metafile.inputs).map((path) => resolve(root, path))),
    warnings: result.warnings.map((each) => ({ text: each.text, at: placeText(each.location, root) })),
  };
}

function author(entry, tasks, resolveSdk) {
  const byFile = Map.groupBy?.(tasks, (task) => task.file.fileName) ?? groupByFile(tasks);
  const builtins = new Set(builtinModules);
  return {
    name: 'fastworker',
    setup(build) {
      build.onResolve({ filter: /^fastworker:author$/ }, () => ({ path: entry }));
      build.onResolve({ filter: /^(fastworker|wasi)([:/]|$)/ }, ({ path }) => resolveSdk(path));
      build.onResolve({ filter: /^node:/ }, ({ path }) => ({ errors: [nodeModule(path)] }));
      build.onResolve({ filter: /^[a-z_][a-z0-9_/]*$/ }, async ({ path, ...rest }) => {
        if (!builtins.has(path) || rest.pluginData === 'seen') return undefined;
        // A package of the same name, such as `events` or `buffer`, is fine.
        const found = await build.resolve(path, { ...rest, pluginData: 'seen' });
        return found.errors.length === 0 ? found : { errors: [nodeModule(path)] };
      });
      build.onLoad({ filter: /\.[cm]?[jt]sx?$/ }, ({ path }) => {
        const found = byFile.get(path);
        if (found === undefined) return undefined;
        return { contents: withSignatures(found[0].file.text, found), loader: LOADERS[extname(path)] ?? 'js', resolveDir: dirname(path) };
      });
    },
  };
}

// For Node before 21.
function groupByFile(tasks) {
  const groups = new Map();
  for (const task of tasks) groups.set(task.file.fileName, [...(groups.get(task.file.fileName) ?? []), task]);
  return groups;
}

function nodeModule(path) {
  const { text, use } = aboutNodeModule(path);
  return { text, notes: [{ text: use }] };
}

// An error of esbuild in the words of the build.
function explain(error, root) {
  const at = placeText(error.location, root);
  const missing = /^Could not resolve "([^"]+)"/.exec(error.text);
  if (missing !== null && !/^[./]/.test(missing[1])) {
    const name = missing[1].split('/').slice(0, missing[1].startsWith('@') ? 2 : 1).join('/');
    return { text: `the package ${name} is not installed`, at, hint: `npm install ${name}, in the folder of your package.json` };
  }
  if (missing !== null) return { text: `there is no file ${missing[1]}`, at };
  if (/^Top-level await/.test(error.text)) {
    return { text: 'await outside of a function', at, hint: 'the top level of a module runs once, when it is built, where nothing can be awaited: await in the task' };
  }
  return { text: error.text, at, hint: error.notes?.map((note) => note.text).join('; ') || undefined };
}

function placeText(location, root) {
  if (!location) return undefined;
  const path = relative(process.cwd(), join(root, location.file));
  return `${path.startsWith('..') ? join(root, location.file) : path}:${location.line}:${location.column + 1}`;
}

// Where each line of the bundle comes from, so that stacks name the author's files. The last line of the bundle, so
// that it moves no other: `[line, source, line there]` wherever the next line is not simply the next one.
function placesLine(code, map) {
  const sourceMap = new SourceMap(map);
  const sources = [];
  const runs = [];
  let expected = {};
  code.split('\n').forEach((text, index) => {
    const entry = sourceMap.findEntry(index, Math.max(0, text.search(/\S/)));
    const isKnown = entry.originalSource !== undefined && entry.generatedLine === index;
    const here = isKnown ? { source: sourceName(entry.originalSource), line: entry.originalLine + 1 } : { source: '', line: 0 };
    if (here.source !== expected.source || (isKnown && here.line !== expected.line)) {
      if (!sources.includes(here.source)) sources.push(here.source);
      runs.push(index + 1, sources.indexOf(here.source), here.line);
    }
    expected = { source: here.source, line: here.line + 1 };
  });
  return `globalThis[Symbol.for("fastworker.places")] = ${JSON.stringify({ sources, runs })};\n`;
}

// Neither the SDK's own files nor folders outside of the project are of use in a stack.
function sourceName(source) {
  if (source.includes(relative(process.cwd(), sdk)) || source.startsWith('fastworker-module')) return '';
  return source.replace(/^(\.\.\/)+/, '');
}
