// The entry point of the page: starts its parts and passes events to them.
//
// server.js talks to the control plane, dom.js creates elements, charts.js draws charts; overview.js shows the
// summary, tasks.js the list of tasks, detail.js a single task. Each part keeps its own state; only this file
// knows all of them.

import { byId, el, formatDuration, setText } from './dom.js';
import { follow, onKeyNeeded } from './server.js';
import * as overview from './overview.js';
import * as tasks from './tasks.js';
import * as detail from './detail.js';

const EVENTS_MAX = 100;

// --- The state of the connection ---

function onConnection(state, wait) {
  byId('state').dataset.state = state;
  const banner = byId('away');
  banner.hidden = state === 'open';
  document.body.classList.toggle('stale', state !== 'open');
  if (state === 'open') {
    setText('state-text', 'live');
    tasks.changed();
    overview.showModules();
  } else {
    setText('state-text', 'away');
    banner.textContent = `The control plane does not answer. The data shown may be outdated; retrying in ${formatDuration(wait / 1000)}.`;
    overview.lost();
  }
}

function showHealth(data) {
  const state = byId('state');
  state.dataset.state = data.draining ? 'draining' : 'open';
  setText('state-text', data.draining ? 'draining' : 'live');
}

// --- Events ---

let paused = false;
let pending = [];
let isDrawScheduled = false;
let skippedCount = 0;

const SHOWS_TASKS = /^task\./;
const SHOWS_MODULES = /^(worker|module)/;

function onEvent(kind, data) {
  if (kind === 'overview') {
    showHealth(data);
    overview.show(data);
    tasks.showWorkers(data.workers);
    tasks.tick(data.at);
    detail.tick();
    return;
  }
  if (kind === 'missed') return onSkipped(data.missed);
  if (SHOWS_TASKS.test(kind)) {
    tasks.changed();
    detail.taskChanged(data);
  }
  if (SHOWS_MODULES.test(kind)) overview.showModules();
  pending.push(data);
  if (pending.length > EVENTS_MAX) pending.shift();
  scheduleDraw();
}

function onSkipped(count) {
  skippedCount += count;
  tasks.changed();
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
  setText('log-note', skippedCount > 0 ? `${skippedCount.toLocaleString('en')} more arrived too fast to show` : '');
}

function eventLine(event) {
  const [group, what] = event.kind.split('.');
  const subject = event.name ?? event.worker_id ?? '';
  const more = [event.name && event.worker_id, event.detail].filter(Boolean).join(' · ').split('\n')[0];
  const open = event.task_id && (() => detail.open(event.task_id));
  return el(
    'li',
    { class: `event ${what}` },
    el('time', { datetime: event.at }, new Date(event.at).toLocaleTimeString('en-GB', { hour12: false })),
    el('span', { class: 'kind' }, group === 'task' ? what : event.kind),
    open
      ? el('button', { type: 'button', class: 'link', onclick: open, title: event.task_id }, subject)
      : el('span', { class: 'about' }, subject),
    more && el('span', { class: 'more', title: event.detail }, more),
  );
}

function startLog() {
  byId('log').append(el('li', { class: 'empty' }, 'No events yet.'));
  byId('log-pause').addEventListener('click', (click) => {
    paused = !paused;
    click.target.textContent = paused ? 'Resume' : 'Pause';
    click.target.setAttribute('aria-pressed', paused);
    scheduleDraw();
  });
}

// --- Light and dark ---

const THEME = 'fastworker-theme';

function startTheme() {
  const system = matchMedia('(prefers-color-scheme: dark)');
  const set = (theme) => {
    if (theme) document.documentElement.dataset.theme = theme;
  };
  set(localStorage.getItem(THEME));
  byId('theme').addEventListener('click', () => {
    const now = document.documentElement.dataset.theme ?? (system.matches ? 'dark' : 'light');
    const next = now === 'dark' ? 'light' : 'dark';
    localStorage.setItem(THEME, next);
    set(next);
  });
}

// --- The key ---

function askForKey(wasWrong) {
  const dialog = byId('key-dialog');
  setText('key-note', wasWrong ? 'This is not the key.' : '');
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
startLog();
onKeyNeeded(askForKey);
overview.start();
detail.start();
tasks.start();
follow({ onEvent, onSkipped, onConnection });
