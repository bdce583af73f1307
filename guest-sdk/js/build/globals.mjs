// What the engines have of what JavaScript usually has.

/** What the complete engine alone has. */
export const COMPLETE = new Set([
  'AbortController', 'AbortSignal', 'Blob', 'CompressionStream', 'CustomEvent', 'DecompressionStream', 'Event',
  'EventTarget', 'File', 'FormData', 'Headers', 'Promise', 'ReadableStream', 'Request', 'Response', 'TransformStream',
  'URL', 'URLSearchParams', 'WritableStream', 'clearInterval', 'clearTimeout', 'fetch', 'queueMicrotask',
  'setInterval', 'setTimeout', 'structuredClone',
]);

/** What neither engine has, and what to use. */
export const ABSENT = new Map([
  ['Buffer', 'Buffer is Node\'s; use Uint8Array with TextEncoder and TextDecoder, or the npm package buffer'],
  ['process', 'process is Node\'s; a task gets what it needs as arguments'],
  ['require', 'require works only in packages; use import'],
  ['__dirname', '__dirname is Node\'s; import a file to have it in the module'],
  ['__filename', '__filename is Node\'s; import a file to have it in the module'],
  ['global', 'global is Node\'s; use globalThis'],
  ['setImmediate', 'setImmediate is Node\'s; use setTimeout'],
  ['Intl', 'neither engine has Intl: format by hand, or use a package without it'],
  ['window', 'window is a browser\'s; use globalThis'],
  ['document', 'document is a browser\'s'],
  ['localStorage', 'localStorage is a browser\'s; every attempt starts empty'],
  ['XMLHttpRequest', 'XMLHttpRequest is a browser\'s; use fetch'],
  ['WebSocket', 'there is no WebSocket; use fetch'],
  ['Worker', 'there are no threads; submit() more tasks instead'],
  ['WebAssembly', 'neither engine runs WebAssembly inside of a module'],
  ['Deno', 'Deno is not the engine here'],
  ['Bun', 'Bun is not the engine here'],
]);

const OTHERWISE = 'use an npm package that does the same in plain JavaScript';
const SOCKETS = 'use fetch: JavaScript tasks have no sockets';
const PARALLEL = 'submit() more tasks: each is an attempt of its own';
/** What to do instead of importing a module of Node. */
const INSTEAD = new Map([
  ['fs', 'pass the content as an argument, or import a text or JSON file to have it in the module'],
  ['path', 'use the npm package path-browserify'],
  ['crypto', 'use crypto.randomUUID(), crypto.getRandomValues(), or an npm package in plain JavaScript such as @noble/hashes'],
  ['http', 'use fetch'],
  ['https', 'use fetch'],
  ['http2', 'use fetch'],
  ['net', SOCKETS],
  ['tls', SOCKETS],
  ['dns', SOCKETS],
  ['url', 'use the global URL'],
  ['querystring', 'use the global URLSearchParams'],
  ['buffer', 'use Uint8Array, or the npm package buffer'],
  ['events', 'use EventTarget, or the npm package events'],
  ['util', 'use the npm package util'],
  ['assert', 'throw an error, or use the npm package assert'],
  ['stream', 'use the global ReadableStream'],
  ['timers', 'use the global setTimeout'],
  ['zlib', 'use CompressionStream, or an npm package in plain JavaScript such as fflate'],
  ['child_process', 'make the other program a task: fastworker runs any WASI program'],
  ['worker_threads', PARALLEL],
  ['cluster', PARALLEL],
  ['os', 'pass what the task needs as arguments'],
  ['process', 'pass what the task needs as arguments'],
  ['test', 'use it with fastworker/testing, in a file of its own'],
]);

/** The sentence for an import of a module of Node. */
export function aboutNodeModule(path) {
  const name = path.replace(/^node:/, '');
  const use = INSTEAD.get(name.split('/')[0]) ?? OTHERWISE;
  return { text: `"${path}" is a module of Node, and a task runs in a sandbox without Node`, use };
}
