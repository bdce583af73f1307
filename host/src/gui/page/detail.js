// The details of one task in a drawer, with its live log and its actions.

import { badge, secondsBetween, byId, formatBytes, formatCount, el, formatDuration, formatTimestamp, withoutMissing, toast } from './dom.js';
import { get, post } from './server.js';

const REFRESH_DELAY = 500;
/** Maximum size of a document to format; larger ones are shown unchanged. */
const FORMAT_MAX = 20000;
/** Maximum nesting of a document to format; deeper ones are shown unchanged, because each level is indented. */
const DEPTH_MAX = 32;

let id = null;
let timer = null;
let opener = null;
/** The state that is shown: unchanged data is not drawn again, since that would clear the selection. */
let drawnState = '';

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
export function open(taskId) {
  id = taskId;
  drawnState = '';
  opener = document.activeElement;
  if (!byId('detail').open) {
    byId('detail').replaceChildren(el('p', { class: 'note' }, 'Loading…'));
    byId('detail').showModal();
  }
  refresh();
}

/** Refreshes the drawer if the event is about its task. */
export function refreshIfShown(event) {
  if (id && event.task_id === id) scheduleRefresh();
}

/** Called every second: a running task may have new reports. */
export function refreshIfLive() {
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
  drawnState = '';
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
  if (state === drawnState) return;
  drawnState = state;
  const log = drawer.querySelector('.reports');
  const isAtEnd = !log || log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
  const opened = new Set([...drawer.querySelectorAll('details')].map((node) => `${node.className} ${node.open}`));
  const focusKey = drawer.contains(document.activeElement) ? document.activeElement.dataset.keep : undefined;
  const parts = withoutMissing(
    el(
      'header',
      {},
      el('h2', { id: 'detail-title' }, task.name),
      badge(task.status),
      closeButton(),
    ),
    el('p', { class: 'id' }, el('code', {}, task.task_id), copyButton(task.task_id)),
    actions(task),
    task.progress && !task.completed_at && progressBar(task.progress),
    task.error && section('Error', el('pre', { class: 'bad' }, task.error), task.error_kind),
    facts(task),
    section('Arguments', jsonView(task.args, task.args_bytes)),
    task.kwargs !== '{}' && section('Named arguments', jsonView(task.kwargs, task.kwargs_bytes)),
    task.result_bytes !== null && section('Result', jsonView(task.result, task.result_bytes), formatBytes(task.result_bytes)),
    reportLog(task.reports),
  );
  drawer.replaceChildren(...parts);
  for (const node of drawer.querySelectorAll('details')) if (opened.has(`${node.className} true`)) node.open = true;
  const newLog = drawer.querySelector('.reports');
  if (newLog && isAtEnd) newLog.scrollTop = newLog.scrollHeight;
  if (focusKey) drawer.querySelector(`[data-keep="${focusKey}"]`)?.focus();
}

function section(title, content, note) {
  return el('section', {}, el('h3', {}, title, note && el('small', {}, ` ${note}`)), content);
}

function facts(task) {
  const waited = secondsBetween(task.created_at, task.started_at);
  const { timeout, max_retries: retries } = task.policy;
  const rows = [
    ['Priority', task.priority],
    ['Worker', task.worker_id],
    ['Attempt', task.attempt && (retries ? `${task.attempt} of ${retries + 1}` : task.attempt)],
    ['Submitted', formatTimestamp(task.created_at)],
    ['Started', task.started_at && `${formatTimestamp(task.started_at)}, ${formatDuration(waited)} later`],
    ['Ended', task.completed_at && formatTimestamp(task.completed_at)],
    ['Ran', task.completed_at && formatDuration(secondsBetween(task.started_at, task.completed_at))],
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
function jsonView(text, size) {
  if (text === null) return el('p', { class: 'note' }, `too large to show (${formatBytes(size)})`);
  let formatted = text;
  if (isDeep(text)) return el('pre', {}, formatted);
  // Left unchanged if parsing would change a number.
  try {
    const value = size < FORMAT_MAX && JSON.parse(text);
    const compact = size < FORMAT_MAX && text.replace(/("(?:[^"\\]|\\.)*")|\s+/g, '$1');
    if (compact && JSON.stringify(value) === compact) formatted = JSON.stringify(value, null, 2);
  } catch {
    // Not valid JSON for this parser: shown unchanged.
  }
  return el('pre', {}, formatted);
}

function reportLog(reports) {
  const lines = reports.filter((report) => report.log);
  if (!lines.length) return null;
  const list = el('ol', { class: 'reports', tabindex: '0' }, lines.map(({ log }) => el('li', { class: log.level }, el('b', {}, log.level), el('span', {}, log.message))));
  return section('Log', list, `${formatCount(lines.length)} ${lines.length === 1 ? 'line' : 'lines'}`);
}

function progressBar({ done, total, message }) {
  const bar = el('span', { class: 'bar' }, el('span'));
  bar.firstElementChild.style.width = `${total ? (100 * done) / total : 0}%`;
  return el('div', { class: 'progress' }, bar, el('small', {}, [total ? `${formatCount(done)} of ${formatCount(total)}` : formatCount(done), message].filter(Boolean).join(' · ')));
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
    task.can_cancel && el('button', { type: 'button', id: 'cancel', class: 'danger', 'data-keep': 'cancel', onclick: () => runAction('cancel', task) }, 'Cancel'),
    task.can_retry && el('button', { type: 'button', id: 'retry', class: 'primary', 'data-keep': 'retry', onclick: () => runAction('retry', task) }, 'Run again'),
  );
}

async function runAction(action, task) {
  for (const button of byId('detail').querySelectorAll('.actions button')) button.disabled = true;
  try {
    const outcome = await post(`/api/tasks/${encodeURIComponent(task.task_id)}/${action}`);
    if (action === 'retry') {
      toast(outcome.error ?? `submitted again as ${outcome.task_id}`, outcome.error ? 'bad' : 'good');
      open(outcome.task_id);
    } else toast(outcome.cancelled ? `cancelled ${task.name}` : outcome.message, outcome.cancelled ? 'good' : 'bad');
  } catch (error) {
    toast(error.message, 'bad');
  }
  drawnState = '';
  refresh();
}
