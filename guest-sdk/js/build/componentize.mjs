// Makes a component of the bundle, with either engine.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { withPlaces } from '../src/places.js';
import { BuildError } from './report.mjs';

/**
 * @param {'small' | 'complete'} engine
 * @param {(name: string) => Promise<any>} importTool
 * @param {{ code: string, wit: string, fetches: boolean }} what the bundle, and the folder of the world
 * @returns {Promise<Uint8Array>}
 */
export async function componentize(engine, importTool, what) {
  try {
    return await (engine === 'small' ? small : complete)(importTool, what);
  } catch (error) {
    throw error instanceof BuildError ? error : explain(error, what.code);
  }
}

async function small(importTool, { code, wit }) {
  const { componentize: run } = await importTool('componentize-qjs');
  const { component } = await run({ witPath: wit, jsSource: code, world: 'module', sync: true });
  return component;
}

async function complete(importTool, { code, wit, fetches }) {
  const { componentize: run } = await importTool('@bytecodealliance/componentize-js');
  const folder = mkdtempSync(join(tmpdir(), 'fastworker-js-'));
  try {
    const sourcePath = join(folder, 'module.js');
    writeFileSync(sourcePath, code);
    // Without `http` a module does not import wasi:http, and so needs no grant.
    const disableFeatures = fetches ? ['fetch-event'] : ['http', 'fetch-event'];
    const { component } = await run({ sourcePath, witPath: wit, worldName: 'module', disableFeatures });
    return component;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

// The top level of the author's code runs here. What it throws arrives as text among that of the tool.
function explain(error, code) {
  const text = withPlaces(String(error?.message ?? error), readPlaces(code)).trim();
  const thrown = /(?:module evaluation: (?:Error: )?|top-level script\s+(?:\S+:\d+(?::\d+)?\s+)?)([\s\S]*)/.exec(text)?.[1] ?? text;
  const [message, ...frames] = thrown.split(/\n(?=\s*at |\s*\S*@|Stack:|Additionally, )/);
  const at = /([^\s(@]+\.[cm]?[jt]sx?:\d+)/.exec(frames.join('\n'))?.[1];
  return new BuildError(message.trim(), {
    at,
    hint: 'the top level of a module runs once, in the sandbox, when it is built',
  });
}

function readPlaces(code) {
  const line = code.trimEnd().split('\n').pop();
  return JSON.parse(line.slice(line.indexOf('=') + 1, -1));
}
