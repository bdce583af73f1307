// Requests to the control plane, and the stream of events.
//
// The stream is read with fetch, since EventSource cannot send a key. It reconnects automatically, and continues after
// the last event that it received.

const KEY_ITEM = 'fastworker-api-key';
let requestKey = null;

/** Sets the function that requests the key from the user and returns a promise of it. */
export function setKeyRequester(requester) {
  requestKey = requester;
}

const headers = () => {
  const key = sessionStorage.getItem(KEY_ITEM);
  return key ? { authorization: `Bearer ${key}` } : {};
};

let pendingKey = null;

/** Fetches, and requests the key until the server accepts it. */
async function fetchWithKey(path, options = {}) {
  for (;;) {
    const usedKey = sessionStorage.getItem(KEY_ITEM);
    const response = await fetch(path, { ...options, headers: { ...options.headers, ...headers() } });
    if (response.status !== 401 || !requestKey) return response;
    await response.body?.cancel();
    // Another request may have obtained the key already.
    if (usedKey !== sessionStorage.getItem(KEY_ITEM)) continue;
    pendingKey ??= requestKey(usedKey !== null).then((key) => {
      sessionStorage.setItem(KEY_ITEM, key);
      pendingKey = null;
    });
    await pendingKey;
  }
}

async function request(path, options) {
  const response = await fetchWithKey(path, options);
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  throw Object.assign(new Error(body.error ?? `the server responded with status ${response.status}`), { status: response.status });
}

/** Sends a GET request. */
export const get = (path) => request(path);

/** Sends a POST request. */
export const post = (path) => request(path, { method: 'POST' });

const RETRY_DELAY_MIN = 1000;
const RETRY_DELAY_MAX = 10000;
/** Time without data after which the stream counts as broken; longer than the heartbeat interval. */
const SILENCE_TIMEOUT = 25000;
/** Maximum number of events to process at once; older ones are skipped. */
const BATCH_MAX = 200;

/**
 * Follows the events without end. Calls `onEvent(kind, data)` for each event, `onSkipped(count)` when events were
 * skipped, and `onConnection(state, retryDelay)` when the connection is `open` or `disconnected`.
 */
export async function follow({ onEvent, onSkipped, onConnection }) {
  let last = null;
  let delay = RETRY_DELAY_MIN;
  for (;;) {
    const controller = new AbortController();
    let silenceTimer;
    const restartTimer = () => {
      clearTimeout(silenceTimer);
      silenceTimer = setTimeout(() => controller.abort(), SILENCE_TIMEOUT);
    };
    try {
      const response = await fetchWithKey('/api/events?overview=true&recent=60', {
        signal: controller.signal,
        headers: last === null ? {} : { 'last-event-id': last },
      });
      if (!response.ok) throw new Error(`the server responded with status ${response.status}`);
      onConnection('open');
      delay = RETRY_DELAY_MIN;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let incomplete = '';
      for (;;) {
        restartTimer();
        const { value, done } = await reader.read();
        if (done) break;
        const frames = (incomplete + value).split('\n\n');
        incomplete = frames.pop();
        last = processFrames(frames, last, onEvent, onSkipped);
      }
    } catch {
      // Every error is handled below.
    }
    clearTimeout(silenceTimer);
    onConnection('disconnected', delay);
    await new Promise((resume) => setTimeout(resume, delay));
    delay = Math.min(delay * 1.6, RETRY_DELAY_MAX);
  }
}

/** Processes frames, skipping older events if there are too many. Returns the number of the last event. */
function processFrames(frames, last, onEvent, onSkipped) {
  let excess = frames.filter((frame) => frame.startsWith('id:')).length - BATCH_MAX;
  if (excess > 0) onSkipped(excess);
  for (const frame of frames) {
    if (frame.startsWith('id:')) {
      last = frame.slice(4, frame.indexOf('\n'));
      excess -= 1;
      if (excess >= 0) continue;
    }
    let kind = '';
    let data = '';
    for (const line of frame.split('\n')) {
      if (line.startsWith('event: ')) kind = line.slice(7);
      else if (line.startsWith('data: ')) data = line.slice(6);
    }
    if (kind) onEvent(kind, JSON.parse(data));
  }
  return last;
}
