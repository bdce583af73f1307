// The entry point of the page: starts its parts and passes events to them.
//
// server.js sends requests to the control plane, dom.js creates elements, charts.js draws charts; overview.js shows
// the summary, tasks.js the list of tasks, detail.js a single task. Each part has its own state; only this file
// uses all of them.

import { byId, el, formatCount, formatDuration, setText } from './dom.js';
import { follow, setKeyRequester } from './server.js';
import * as overview from './overview.js';
import * as tasks from './tasks.js';
import * as detail from './detail.js';

const EVENTS_MAX = 100;

// --- The state of the connection ---

function onConnection(state, retryDelay) {
  byId('state').dataset.state = state;
  const banner = byId('connection-banner');
  banner.hidden = state === 'open';
  document.body.classList.toggle('stale', state !== 'open');
  if (state === 'open') {
    setText('state-text', 'live');
    tasks.scheduleRefresh();
    overview.loadModules();
  } else {
    setText('state-text', 'disconnected');
    banner.textContent = `The control plane is not responding. The data shown may be outdated; retrying in ${formatDuration(retryDelay / 1000)}.`;
    overview.markDisconnected();
  }
}

function showState(data) {
  const state = byId('state');
  state.dataset.state = data.draining ? 'draining' : 'open';
  setText('state-text', data.draining ? 'draining' : 'live');
}

// --- Events ---

let paused = false;
let pending = [];
let isDrawScheduled = false;
let skippedCount = 0;

const TASK_EVENT = /^task\./;
const MODULE_EVENT = /^(worker|module)/;

function onEvent(kind, data) {
  if (kind === 'overview') {
    showState(data);
    overview.update(data);
    tasks.showWorkers(data.workers);
    tasks.updateTimes(data.at);
    detail.refreshIfLive();
    return;
  }
  if (kind === 'missed') return onSkipped(data.missed);
  if (TASK_EVENT.test(kind)) {
    tasks.scheduleRefresh();
    detail.refreshIfShown(data);
  }
  if (MODULE_EVENT.test(kind)) overview.loadModules();
  pending.push(data);
  if (pending.length > EVENTS_MAX) pending.shift();
  scheduleDraw();
}

function onSkipped(count) {
  skippedCount += count;
  tasks.scheduleRefresh();
  scheduleDraw();
}

function scheduleDraw() {
  if (isDrawScheduled || paused) return;
  isDrawScheduled = true;
  requestAnimationFrame(drawEvents);
}

function drawEvents() {
  isDrawScheduled = false;
  const log = byId('log');
  if (log.firstElementChild?.classList.contains('empty')) log.replaceChildren();
  for (const event of pending) log.prepend(eventLine(event));
  pending = [];
  while (log.children.length > EVENTS_MAX) log.lastElementChild.remove();
  setText('log-note', skippedCount > 0 ? `${formatCount(skippedCount)} events skipped` : '');
}

function eventLine(event) {
  const [group, action] = event.kind.split('.');
  const subject = event.name ?? event.worker_id ?? '';
  const details = [event.name && event.worker_id, event.detail].filter(Boolean).join(' · ').split('\n')[0];
  const open = event.task_id && (() => detail.open(event.task_id));
  return el(
    'li',
    { class: `event ${action}` },
    el('time', { datetime: event.at }, new Date(event.at).toLocaleTimeString('en-GB', { hour12: false })),
    el('span', { class: 'kind' }, group === 'task' ? action : event.kind),
    open
      ? el('button', { type: 'button', class: 'link', onclick: open, title: event.task_id }, subject)
      : el('span', { class: 'about' }, subject),
    details && el('span', { class: 'more', title: event.detail }, details),
  );
}

function startEventLog() {
  byId('log').append(el('li', { class: 'empty' }, 'No events yet.'));
  byId('log-pause').addEventListener('click', (click) => {
    paused = !paused;
    click.target.textContent = paused ? 'Resume' : 'Pause';
    click.target.setAttribute('aria-pressed', paused);
    scheduleDraw();
  });
}

// --- Light and dark ---

const THEME_KEY = 'fastworker-theme';

function startTheme() {
  const system = matchMedia('(prefers-color-scheme: dark)');
  const set = (theme) => {
    if (theme) document.documentElement.dataset.theme = theme;
  };
  set(localStorage.getItem(THEME_KEY));
  byId('theme').addEventListener('click', () => {
    const current = document.documentElement.dataset.theme ?? (system.matches ? 'dark' : 'light');
    const next = current === 'dark' ? 'light' : 'dark';
    localStorage.setItem(THEME_KEY, next);
    set(next);
  });
}

// --- The key ---

function requestKey(wasInvalid) {
  const dialog = byId('key-dialog');
  setText('key-note', wasInvalid ? 'This is not the key.' : '');
  dialog.showModal();
  return new Promise((resolve) => {
    const input = byId('key-input');
    byId('key-form').onsubmit = () => {
      resolve(input.value);
      input.value = '';
    };
    // The page shows nothing without the key.
    dialog.oncancel = (event) => event.preventDefault();
  });
}

startTheme();
startEventLog();
setKeyRequester(requestKey);
overview.start();
detail.start();
tasks.start();
follow({ onEvent, onSkipped, onConnection });
