// Talks to the control plane: questions, and the stream of what happens.
//
// The stream is read by fetch and not by EventSource, since that can send no key. It comes back by
// itself, and goes on after the last event that it saw.

const KEY = 'fastworker-api-key';
let askForKey = null;

/** What to do when the server wants a key: a function that promises one. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

const headers = () => {
  const key = sessionStorage.getItem(KEY);
  return key ? { authorization: `Bearer ${key}` } : {};
};

let asking = null;

/** Fetches, and asks for the key as often as the server wants one. */
async function fetchWithKey(path, options = {}) {
  for (;;) {
    const shown = sessionStorage.getItem(KEY);
    const response = await fetch(path, { ...options, headers: { ...options.headers, ...headers() } });
    if (response.status !== 401 || !askForKey) return response;
    await response.body?.cancel();
    // Another question may have asked for it meanwhile.
    if (shown !== sessionStorage.getItem(KEY)) continue;
    asking ??= askForKey(shown !== null).then((key) => {
      sessionStorage.setItem(KEY, key);
      asking = null;
    });
    await asking;
  }
}

async function answer(path, options) {
  const response = await fetchWithKey(path, options);
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  throw Object.assign(new Error(body.error ?? `the server answers ${response.status}`), { status: response.status });
}

/** Asks for something. */
export const get = (path) => answer(path);

/** Asks for something to be done. */
export const post = (path) => answer(path, { method: 'POST' });

const AGAIN_FIRST = 1000;
const AGAIN_MAX = 10000;
/** Longer than the heartbeat: a stream that is silent for so long has broken off. */
const SILENCE_MAX = 25000;
/** Of so many events that come at once, the newest are read. */
const READ_MAX = 200;

/**
 * Follows what happens, for good. `heard(kind, data)` gets what comes, `skipped(n)` how many events
 * were not told, and `stood(state, wait)` how the connection stands: open, or away.
 */
export async function follow({ heard, skipped, stood }) {
  let last = null;
  let again = AGAIN_FIRST;
  for (;;) {
    const stop = new AbortController();
    let silence;
    const listen = () => {
      clearTimeout(silence);
      silence = setTimeout(() => stop.abort(), SILENCE_MAX);
    };
    try {
      const response = await fetchWithKey('/api/events?overview=true&recent=60', {
        signal: stop.signal,
        headers: last === null ? {} : { 'last-event-id': last },
      });
      if (!response.ok) throw new Error(`the server answers ${response.status}`);
      stood('open');
      again = AGAIN_FIRST;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = '';
      for (;;) {
        listen();
        const { value, done } = await reader.read();
        if (done) break;
        const frames = (rest + value).split('\n\n');
        rest = frames.pop();
        last = read(frames, last, heard, skipped);
      }
    } catch {
      // Told below, whatever it was.
    }
    clearTimeout(silence);
    stood('away', again);
    await new Promise((resume) => setTimeout(resume, again));
    again = Math.min(again * 1.6, AGAIN_MAX);
  }
}

/** Reads frames, of very many only the newest events. Returns the number of the last event. */
function read(frames, last, heard, skipped) {
  let leave = frames.filter((frame) => frame.startsWith('id:')).length - READ_MAX;
  if (leave > 0) skipped(leave);
  for (const frame of frames) {
    if (frame.startsWith('id:')) {
      last = frame.slice(4, frame.indexOf('\n'));
      leave -= 1;
      if (leave >= 0) continue;
    }
    let kind = '';
    let data = '';
    for (const line of frame.split('\n')) {
      if (line.startsWith('event: ')) kind = line.slice(7);
      else if (line.startsWith('data: ')) data = line.slice(6);
    }
    if (kind) heard(kind, JSON.parse(data));
  }
  return last;
}
