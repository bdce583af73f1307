// One task, in a drawer: everything that is known of it, its log as it comes, and what can be done.

import { badge, between, byId, bytes, count, el, moment, span, those, toast } from './dom.js';
import { get, post } from './server.js';

const AGAIN_AFTER = 500;
/** Documents of so many bytes are shown as they are. */
const SPREAD_MAX = 20000;
/** Documents that nest deeper are shown as they are: each level is indented further. */
const DEPTH_MAX = 32;

let id = null;
let timer = null;
let opener = null;
/** What is drawn, so that the same is not drawn again: a selection would be lost. */
let drawn = '';

export function start() {
  const drawer = byId('detail');
  drawer.addEventListener('close', () => {
    id = null;
    clearTimeout(timer);
    timer = null;
    opener?.focus?.();
  });
  drawer.addEventListener('click', (event) => event.target === drawer && drawer.close());
}

/** Opens a task. */
export function open(task) {
  id = task;
  drawn = '';
  opener = document.activeElement;
  if (!byId('detail').open) {
    byId('detail').replaceChildren(el('p', { class: 'note' }, 'Asking…'));
    byId('detail').showModal();
  }
  refresh();
}

/** Something happened to a task. */
export function happened(event) {
  if (id && event.task_id === id) again();
}

/** A second went by: a running task may have said something. */
export function tick() {
  if (id && byId('detail').dataset.live) again();
}

function again() {
  timer ??= setTimeout(refresh, AGAIN_AFTER);
}

async function refresh() {
  clearTimeout(timer);
  timer = null;
  const asked = id;
  if (!asked) return;
  try {
    const task = await get(`/api/tasks/${encodeURIComponent(asked)}`);
    if (asked === id) draw(task);
  } catch (error) {
    if (asked === id) drawMissing(error);
  }
}

const shut = () =>
  el('button', { type: 'button', class: 'quiet', onclick: () => byId('detail').close(), 'aria-label': 'Close' }, '✕');

function drawMissing(error) {
  delete byId('detail').dataset.live;
  drawn = '';
  byId('detail').replaceChildren(
    el('header', {}, el('h2', { id: 'detail-title' }, 'Not found'), shut()),
    el('p', { class: 'empty' }, error.message),
  );
}

function draw(task) {
  const drawer = byId('detail');
  if (task.can_cancel) drawer.dataset.live = 'yes';
  else delete drawer.dataset.live;
  const state = JSON.stringify(task);
  if (state === drawn) return;
  drawn = state;
  const log = drawer.querySelector('.reports');
  const follows = !log || log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
  const opened = new Set([...drawer.querySelectorAll('details')].map((node) => `${node.className} ${node.open}`));
  const focus = drawer.contains(document.activeElement) ? document.activeElement.dataset.keep : undefined;
  const parts = those(
    el(
      'header',
      {},
      el('h2', { id: 'detail-title' }, task.name),
      badge(task.status),
      shut(),
    ),
    el('p', { class: 'id' }, el('code', {}, task.task_id), copyButton(task.task_id)),
    actions(task),
    task.progress && !task.completed_at && progress(task.progress),
    task.error && section('Error', el('pre', { class: 'bad' }, task.error), task.error_kind),
    facts(task),
    section('Arguments', paper(task.args, task.args_bytes)),
    task.kwargs !== '{}' && section('Named arguments', paper(task.kwargs, task.kwargs_bytes)),
    task.result_bytes !== null && section('Result', paper(task.result, task.result_bytes), bytes(task.result_bytes)),
    reports(task.reports),
  );
  drawer.replaceChildren(...parts);
  for (const node of drawer.querySelectorAll('details')) if (opened.has(`${node.className} true`)) node.open = true;
  const written = drawer.querySelector('.reports');
  if (written && follows) written.scrollTop = written.scrollHeight;
  if (focus) drawer.querySelector(`[data-keep="${focus}"]`)?.focus();
}

function section(title, content, note) {
  return el('section', {}, el('h3', {}, title, note && el('small', {}, ` ${note}`)), content);
}

function facts(task) {
  const waited = between(task.created_at, task.started_at);
  const { timeout, max_retries: retries } = task.policy;
  const rows = [
    ['Priority', task.priority],
    ['Worker', task.worker_id],
    ['Attempt', task.attempt && (retries ? `${task.attempt} of ${retries + 1}` : task.attempt)],
    ['Submitted', moment(task.created_at)],
    ['Began', task.started_at && `${moment(task.started_at)}, ${span(waited)} later`],
    ['Ended', task.completed_at && moment(task.completed_at)],
    ['Ran', task.completed_at && span(between(task.started_at, task.completed_at))],
    ['Timeout', timeout && span(timeout)],
    ['Module version', task.module_version],
    ['Callback', task.callback && [task.callback.state, task.callback.reason, task.callback.address].filter(Boolean).join(' · ')],
  ];
  const told = rows.filter(([, value]) => value);
  return el('dl', { class: 'facts-list' }, told.map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, String(value)))));
}

/** How deep a document nests, up to a bound. */
function isDeep(text) {
  let depth = 0;
  for (const part of text.matchAll(/"(?:[^"\\]|\\.)*"|[[{]|[\]}]/g)) {
    if (part[0] === '[' || part[0] === '{') depth += 1;
    else if (part[0] === ']' || part[0] === '}') depth -= 1;
    if (depth > DEPTH_MAX) return true;
  }
  return false;
}

/** A document, with line breaks where that can be. */
function paper(text, size) {
  if (text === null) return el('p', { class: 'note' }, `${bytes(size)} are too large to show here`);
  let shown = text;
  if (isDeep(text)) return el('pre', {}, shown);
  // Numbers that a browser would change are left as they are.
  try {
    const value = size < SPREAD_MAX && JSON.parse(text);
    const tight = size < SPREAD_MAX && text.replace(/("(?:[^"\\]|\\.)*")|\s+/g, '$1');
    if (tight && JSON.stringify(value) === tight) shown = JSON.stringify(value, null, 2);
  } catch {
    // It is shown as it is.
  }
  return el('pre', {}, shown);
}

function reports(all) {
  const lines = all.filter((report) => report.log);
  if (!lines.length) return null;
  const list = el('ol', { class: 'reports', tabindex: '0' }, lines.map(({ log }) => el('li', { class: log.level }, el('b', {}, log.level), el('span', {}, log.message))));
  return section('Log', list, `${count(lines.length)} ${lines.length === 1 ? 'line' : 'lines'}`);
}

function progress({ done, total, message }) {
  const bar = el('span', { class: 'bar' }, el('span'));
  bar.firstElementChild.style.width = `${total ? (100 * done) / total : 0}%`;
  return el('div', { class: 'progress' }, bar, el('small', {}, [total ? `${count(done)} of ${count(total)}` : count(done), message].filter(Boolean).join(' · ')));
}

function copyButton(text) {
  if (!navigator.clipboard) return null;
  const copy = () => navigator.clipboard.writeText(text).then(() => toast('copied'), () => toast('the browser does not let the page copy', 'bad'));
  return el('button', { type: 'button', class: 'quiet', onclick: copy, 'data-keep': 'copy' }, 'Copy');
}

// --- What can be done ---

function actions(task) {
  return el(
    'div',
    { class: 'actions' },
    task.can_cancel && el('button', { type: 'button', id: 'cancel', class: 'danger', 'data-keep': 'cancel', onclick: () => act('cancel', task) }, 'Cancel'),
    task.can_retry && el('button', { type: 'button', id: 'retry', class: 'primary', 'data-keep': 'retry', onclick: () => act('retry', task) }, 'Run again'),
  );
}

async function act(what, task) {
  for (const button of byId('detail').querySelectorAll('.actions button')) button.disabled = true;
  try {
    const done = await post(`/api/tasks/${encodeURIComponent(task.task_id)}/${what}`);
    if (what === 'retry') {
      toast(done.error ?? `runs again, as ${done.task_id}`, done.error ? 'bad' : 'good');
      open(done.task_id);
    } else toast(done.cancelled ? `cancelled ${task.name}` : done.message, done.cancelled ? 'good' : 'bad');
  } catch (error) {
    toast(error.message, 'bad');
  }
  drawn = '';
  refresh();
}
