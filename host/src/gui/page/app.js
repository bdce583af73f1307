// The page: starts its parts and brings them what the server tells.
//
// server.js talks, dom.js makes elements, charts.js draws; overview.js shows the whole at a glance,
// tasks.js the list of tasks, detail.js one of them. Each part has `show…` functions and keeps its
// own state; only this file knows all of them.

import { byId, el, say, span } from './dom.js';
import { follow, onKeyNeeded } from './server.js';
import * as overview from './overview.js';
import * as tasks from './tasks.js';
import * as detail from './detail.js';

const EVENTS_SHOWN = 100;

// --- How the connection stands ---

function stood(state, wait) {
  byId('state').dataset.state = state;
  const banner = byId('away');
  banner.hidden = state === 'open';
  document.body.classList.toggle('stale', state !== 'open');
  if (state === 'open') {
    say('state-text', 'live');
    tasks.changed();
    overview.showModules();
  } else {
    say('state-text', 'away');
    banner.textContent = `The control plane does not answer. What is shown is from before; trying again in ${span(wait / 1000)}.`;
    overview.lost();
  }
}

function showHealth(data) {
  const state = byId('state');
  state.dataset.state = data.draining ? 'draining' : 'open';
  say('state-text', data.draining ? 'draining' : 'live');
}

// --- Events ---

let paused = false;
let waiting = [];
let drawing = false;
let skippedSince = 0;

const SHOWS_TASKS = /^task\./;
const SHOWS_MODULES = /^(worker|module)/;

function heard(kind, data) {
  if (kind === 'overview') {
    showHealth(data);
    overview.show(data);
    tasks.showWorkers(data.workers);
    tasks.tick(data.at);
    detail.tick();
    return;
  }
  if (kind === 'missed') return skipped(data.missed);
  if (SHOWS_TASKS.test(kind)) {
    tasks.changed();
    detail.happened(data);
  }
  if (SHOWS_MODULES.test(kind)) overview.showModules();
  waiting.push(data);
  if (waiting.length > EVENTS_SHOWN) waiting.shift();
  drawSoon();
}

function skipped(number) {
  skippedSince += number;
  tasks.changed();
  drawSoon();
}

function drawSoon() {
  if (drawing || paused) return;
  drawing = true;
  requestAnimationFrame(drawEvents);
}

function drawEvents() {
  drawing = false;
  const log = byId('log');
  if (log.firstElementChild?.classList.contains('empty')) log.replaceChildren();
  for (const event of waiting) log.prepend(eventLine(event));
  waiting = [];
  while (log.children.length > EVENTS_SHOWN) log.lastElementChild.remove();
  say('log-note', skippedSince > 0 ? `${skippedSince.toLocaleString('en')} more came too fast to show` : '');
}

function eventLine(event) {
  const [group, what] = event.kind.split('.');
  const about = event.name ?? event.worker_id ?? '';
  const more = [event.name && event.worker_id, event.detail].filter(Boolean).join(' · ').split('\n')[0];
  const open = event.task_id && (() => detail.open(event.task_id));
  return el(
    'li',
    { class: `event ${what}` },
    el('time', { datetime: event.at }, new Date(event.at).toLocaleTimeString('en-GB', { hour12: false })),
    el('span', { class: 'kind' }, group === 'task' ? what : event.kind),
    open
      ? el('button', { type: 'button', class: 'link', onclick: open, title: event.task_id }, about)
      : el('span', { class: 'about' }, about),
    more && el('span', { class: 'more', title: event.detail }, more),
  );
}

function startLog() {
  byId('log').append(el('li', { class: 'empty' }, 'Nothing has happened yet.'));
  byId('log-pause').addEventListener('click', (click) => {
    paused = !paused;
    click.target.textContent = paused ? 'Go on' : 'Pause';
    click.target.setAttribute('aria-pressed', paused);
    drawSoon();
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
  say('key-note', wasWrong ? 'That is not the key.' : '');
  dialog.showModal();
  return new Promise((resolve) => {
    const input = byId('key-input');
    byId('key-form').onsubmit = () => {
      resolve(input.value);
      input.value = '';
    };
    // There is nothing to see without it.
    dialog.oncancel = (event) => event.preventDefault();
  });
}

startTheme();
startLog();
onKeyNeeded(askForKey);
overview.start();
detail.start();
tasks.start();
follow({ heard, skipped, stood });
