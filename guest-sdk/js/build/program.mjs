// The author's sources as the TypeScript compiler reads them.

import { existsSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder of the SDK. */
export const sdk = fileURLToPath(new URL('..', import.meta.url));

/**
 * @param {typeof import('typescript')} ts
 * @param {string} entry
 * @returns {{ program: import('typescript').Program, root: string }}
 */
export function createProgram(ts, entry) {
  const config = ts.findConfigFile(dirname(entry), existsSync);
  const given = config === undefined ? {} : readOptions(ts, config);
  const options = {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.ESNext,
    lib: ['lib.es2023.d.ts', 'lib.dom.d.ts', 'lib.dom.iterable.d.ts'],
    ...given,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    paths: {
      ...given.paths,
      fastworker: [join(sdk, 'src/index.d.ts')],
      'fastworker/testing': [join(sdk, 'src/testing.d.ts')],
    },
    pathsBasePath: given.pathsBasePath ?? (config === undefined ? undefined : dirname(config)),
    allowImportingTsExtensions: true,
    allowJs: true,
    checkJs: given.checkJs ?? false,
    maxNodeModuleJsDepth: 0,
    noEmit: true,
    composite: false,
    incremental: false,
    declaration: false,
    skipLibCheck: true,
    // Without it, null and undefined are not in a type.
    strictNullChecks: true,
    resolveJsonModule: true,
  };
  const roots = [entry, join(sdk, 'src/assets.d.ts')];
  return { program: ts.createProgram(roots, options), root: dirname(entry) };
}

function readOptions(ts, config) {
  const host = { ...ts.sys, onUnRecoverableConfigFileDiagnostic() {} };
  const options = ts.getParsedCommandLineOfConfigFile(config, {}, host)?.options ?? {};
  if (options.module === ts.ModuleKind.CommonJS) delete options.module;
  for (const key of ['outDir', 'outFile', 'rootDir', 'tsBuildInfoFile', 'emitDeclarationOnly', 'declarationMap']) delete options[key];
  return options;
}

/** The files that the author wrote. */
export function authorFiles(program) {
  return program.getSourceFiles().filter((file) =>
    !file.isDeclarationFile && !file.fileName.includes('/node_modules/') && !file.fileName.endsWith('.json'));
}

/** `file:line:column` of a node. */
export function placeOf(file, position, root = process.cwd()) {
  const { line, character } = file.getLineAndCharacterOfPosition(position);
  return `${relative(root, file.fileName) || file.fileName}:${line + 1}:${character + 1}`;
}

// "Cannot find name 'process'" and the like: what is absent is said in other words.
const NAMES_OF_NODE = [2580, 2591];

/** The type errors in the author's TypeScript files, as texts with places. */
export function typeErrors(ts, program) {
  const files = authorFiles(program);
  const diagnostics = files.flatMap((file) => program.getSemanticDiagnostics(file));
  return diagnostics.filter(({ code }) => !NAMES_OF_NODE.includes(code)).map((diagnostic) => ({
    text: ts.flattenDiagnosticMessageText(diagnostic.messageText, ' '),
    code: diagnostic.code,
    at: diagnostic.file === undefined ? undefined : placeOf(diagnostic.file, diagnostic.start),
  }));
}
