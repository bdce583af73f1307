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

const PURE = 'an npm package that does the same in plain JavaScript';
/** What to use instead of a module of Node. */
const INSTEAD = new Map([
  ['fs', 'pass the content as an argument, or import a text or JSON file to have it in the module'],
  ['path', 'the npm package path-browserify'],
  ['crypto', 'crypto.randomUUID(), crypto.getRandomValues(), or an npm package in plain JavaScript such as @noble/hashes'],
  ['http', 'fetch'],
  ['https', 'fetch'],
  ['http2', 'fetch'],
  ['net', 'fetch: JavaScript tasks have no sockets'],
  ['tls', 'fetch: JavaScript tasks have no sockets'],
  ['dns', 'fetch: JavaScript tasks have no sockets'],
  ['url', 'the global URL'],
  ['querystring', 'the global URLSearchParams'],
  ['buffer', 'Uint8Array, or the npm package buffer'],
  ['events', 'EventTarget, or the npm package events'],
  ['util', 'the npm package util'],
  ['assert', 'an if and a throw, or the npm package assert'],
  ['stream', 'the global ReadableStream'],
  ['timers', 'the global setTimeout'],
  ['zlib', 'CompressionStream, or an npm package in plain JavaScript such as fflate'],
  ['child_process', 'a task of its own for the other program: fastworker runs any WASI program'],
  ['worker_threads', 'submit(): each task is an attempt of its own'],
  ['cluster', 'submit(): each task is an attempt of its own'],
  ['os', 'arguments of the task'],
  ['process', 'arguments of the task'],
  ['test', 'fastworker/testing, in a file of its own'],
]);

/** The sentence for an import of a module of Node. */
export function aboutNodeModule(path) {
  const name = path.replace(/^node:/, '');
  const use = INSTEAD.get(name.split('/')[0]) ?? PURE;
  return { text: `"${path}" is a module of Node, and a task runs in a sandbox without Node`, use: `use ${use}` };
}
