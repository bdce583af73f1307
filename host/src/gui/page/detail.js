// The details of one task in a drawer, with its live log and its actions.

import { badge, between, byId, bytes, count, el, formatDuration, moment, present, toast } from './dom.js';
import { get, post } from './server.js';

const REFRESH_DELAY = 500;
/** Maximum size of a document to format; larger ones are shown unchanged. */
const FORMAT_MAX = 20000;
/** Maximum nesting of a document to format; deeper ones are shown unchanged, because each level is indented. */
const DEPTH_MAX = 32;

let id = null;
let timer = null;
let opener = null;
/** What is shown, so that unchanged data is not drawn again, which would clear the selection. */
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

/** Opens the drawer with a task. */
export function open(task) {
  id = task;
  drawn = '';
  opener = document.activeElement;
  if (!byId('detail').open) {
    byId('detail').replaceChildren(el('p', { class: 'note' }, 'Loading…'));
    byId('detail').showModal();
  }
  refresh();
}

/** Refreshes the drawer if the event is about its task. */
export function taskChanged(event) {
  if (id && event.task_id === id) scheduleRefresh();
}

/** Called every second: a running task may have new reports. */
export function tick() {
  if (id && byId('detail').dataset.live) scheduleRefresh();
}

function scheduleRefresh() {
  timer ??= setTimeout(refresh, REFRESH_DELAY);
}

async function refresh() {
  clearTimeout(timer);
  timer = null;
  const requested = id;
  if (!requested) return;
  try {
    const task = await get(`/api/tasks/${encodeURIComponent(requested)}`);
    if (requested === id) draw(task);
  } catch (error) {
    if (requested === id) drawMissing(error);
  }
}

const closeButton = () =>
  el('button', { type: 'button', class: 'quiet', onclick: () => byId('detail').close(), 'aria-label': 'Close' }, '✕');

function drawMissing(error) {
  delete byId('detail').dataset.live;
  drawn = '';
  byId('detail').replaceChildren(
    el('header', {}, el('h2', { id: 'detail-title' }, 'Not found'), closeButton()),
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
  const parts = present(
    el(
      'header',
      {},
      el('h2', { id: 'detail-title' }, task.name),
      badge(task.status),
      closeButton(),
    ),
    el('p', { class: 'id' }, el('code', {}, task.task_id), copyButton(task.task_id)),
    actions(task),
    task.progress && !task.completed_at && progress(task.progress),
    task.error && section('Error', el('pre', { class: 'bad' }, task.error), task.error_kind),
    facts(task),
    section('Arguments', documentView(task.args, task.args_bytes)),
    task.kwargs !== '{}' && section('Named arguments', documentView(task.kwargs, task.kwargs_bytes)),
    task.result_bytes !== null && section('Result', documentView(task.result, task.result_bytes), bytes(task.result_bytes)),
    reports(task.reports),
  );
  drawer.replaceChildren(...parts);
  for (const node of drawer.querySelectorAll('details')) if (opened.has(`${node.className} true`)) node.open = true;
  const newLog = drawer.querySelector('.reports');
  if (newLog && follows) newLog.scrollTop = newLog.scrollHeight;
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
    ['Started', task.started_at && `${moment(task.started_at)}, ${formatDuration(waited)} later`],
    ['Ended', task.completed_at && moment(task.completed_at)],
    ['Ran', task.completed_at && formatDuration(between(task.started_at, task.completed_at))],
    ['Timeout', timeout && formatDuration(timeout)],
    ['Module version', task.module_version],
    ['Callback', task.callback && [task.callback.state, task.callback.reason, task.callback.address].filter(Boolean).join(' · ')],
  ];
  const known = rows.filter(([, value]) => value);
  return el('dl', { class: 'facts-list' }, known.map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, String(value)))));
}

/** Whether a document is nested more deeply than DEPTH_MAX. */
function isDeep(text) {
  let depth = 0;
  for (const part of text.matchAll(/"(?:[^"\\]|\\.)*"|[[{]|[\]}]/g)) {
    if (part[0] === '[' || part[0] === '{') depth += 1;
    else if (part[0] === ']' || part[0] === '}') depth -= 1;
    if (depth > DEPTH_MAX) return true;
  }
  return false;
}

/** A JSON document, formatted if possible. */
function documentView(text, size) {
  if (text === null) return el('p', { class: 'note' }, `too large to show (${bytes(size)})`);
  let shown = text;
  if (isDeep(text)) return el('pre', {}, shown);
  // Left unchanged if parsing would change a number.
  try {
    const value = size < FORMAT_MAX && JSON.parse(text);
    const compact = size < FORMAT_MAX && text.replace(/("(?:[^"\\]|\\.)*")|\s+/g, '$1');
    if (compact && JSON.stringify(value) === compact) shown = JSON.stringify(value, null, 2);
  } catch {
    // Not valid JSON for this parser: shown unchanged.
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
  const copy = () => navigator.clipboard.writeText(text).then(() => toast('copied'), () => toast('the browser does not allow copying', 'bad'));
  return el('button', { type: 'button', class: 'quiet', onclick: copy, 'data-keep': 'copy' }, 'Copy');
}

// --- Actions ---

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
      toast(done.error ?? `submitted again as ${done.task_id}`, done.error ? 'bad' : 'good');
      open(done.task_id);
    } else toast(done.cancelled ? `cancelled ${task.name}` : done.message, done.cancelled ? 'good' : 'bad');
  } catch (error) {
    toast(error.message, 'bad');
  }
  drawn = '';
  refresh();
}
