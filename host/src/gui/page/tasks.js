// The list of tasks, which is refreshed when a task changes, at most once per second.

import { relativeTime, badge, secondsBetween, byId, formatCount, el, formatDuration, updateList, formatTimestamp, updateBadge, setNodeText, setText, escapeInvisible } from './dom.js';
import { get } from './server.js';
import * as detail from './detail.js';
import { showPlaceholder } from './overview.js';

const PAGE_SIZE = 15;
const REFRESH_INTERVAL = 1000;

const TABS = [
  { name: 'Activity', status: 'started,success,failure,cancelled', placeholder: 'No task has run yet. Submit one:' },
  { name: 'Running', status: 'started', placeholder: 'No running tasks.' },
  { name: 'Waiting', status: 'pending,scheduled,retrying', placeholder: 'No waiting tasks.' },
  { name: 'Failed', status: 'failure', placeholder: 'No failed tasks in the result cache.' },
  { name: 'Done', status: 'success', placeholder: 'No completed tasks in the result cache.' },
  { name: 'Cancelled', status: 'cancelled', placeholder: 'No cancelled tasks in the result cache.' },
];
const SUBMIT_EXAMPLE = 'fastworker submit --task-name add --args 5 3';

let tab = TABS[0];
let offset = 0;
let shown = 0;
let total = 0;

export function start() {
  byId('task-tabs').append(
    ...TABS.map((item) =>
      el('button', { type: 'button', 'aria-pressed': item === tab, onclick: () => selectTab(item) }, item.name),
    ),
  );
  byId('task-filters').addEventListener('submit', (event) => {
    event.preventDefault();
    const id = byId('filter-id').value.trim();
    if (id) detail.open(id);
    else refresh();
  });
  for (const id of ['filter-name', 'filter-worker']) {
    byId(id).addEventListener('change', () => {
      offset = 0;
      refresh();
    });
  }
  byId('task-newer').addEventListener('click', () => changePage(-PAGE_SIZE));
  byId('task-older').addEventListener('click', () => changePage(PAGE_SIZE));
  document.addEventListener('visibilitychange', () => !document.hidden && scheduleRefresh());
  showPlaceholder('task-table', 7, 'Loading…');
}

function selectTab(selected) {
  tab = selected;
  offset = 0;
  for (const button of byId('task-tabs').children) button.setAttribute('aria-pressed', button.textContent === tab.name);
  refresh();
}

function changePage(delta) {
  offset = Math.max(0, offset + delta);
  refresh();
}

/** Updates the list of workers to filter by. */
export function showWorkers(workers) {
  const select = byId('filter-worker');
  const ids = [...new Set(workers.map((worker) => worker.id))].sort();
  const known = [...select.options].slice(1).map((option) => option.value);
  if (ids.join('\n') === known.join('\n')) return;
  const chosen = select.value;
  if (chosen && !ids.includes(chosen)) ids.push(chosen);
  select.replaceChildren(el('option', { value: '' }, 'any'), ...ids.map((id) => el('option', { value: id }, id)));
  select.value = chosen;
}

/** Called every second: updates the times. */
export function updateTimes(now) {
  serverTime = now;
  const rows = byId('task-table').tBodies[0].rows;
  listedTasks.forEach((task, index) => rows[index].dataset.key === task.task_id && showTimes(rows[index], task));
}

// --- Loading ---

let timer = null;
let loadedAt = 0;
let isLoading = false;
let loadAgain = false;
/** Whether a listed task is running: then the list is refreshed to show its progress. */
let hasRunning = false;
/** The listed tasks, and the server's time at the last overview. */
let listedTasks = [];
let serverTime = null;

/** Schedules a refresh after a task has changed. */
export function scheduleRefresh() {
  if (timer || document.hidden) return;
  timer = setTimeout(refresh, Math.max(0, loadedAt + REFRESH_INTERVAL - performance.now()));
}

async function refresh() {
  clearTimeout(timer);
  timer = null;
  if (isLoading) {
    loadAgain = true;
    return;
  }
  isLoading = true;
  loadedAt = performance.now();
  const query = new URLSearchParams({
    status: tab.status,
    limit: PAGE_SIZE,
    offset,
    // The list does not show results, which may be large.
    results: false,
    name: byId('filter-name').value.trim(),
    worker: byId('filter-worker').value,
  });
  try {
    const page = await get(`/api/tasks?${query}`);
    draw(page);
    setText('filter-note', '');
  } catch (error) {
    if (error.status) setText('filter-note', error.message);
  }
  isLoading = false;
  if (loadAgain) {
    loadAgain = false;
    refresh();
  } else if (hasRunning) scheduleRefresh();
}

// --- Showing ---

function draw(page) {
  shown = page.tasks.length;
  total = page.total;
  hasRunning = page.tasks.some((task) => task.status === 'started');
  listedTasks = page.tasks;
  const isFiltered = byId('filter-name').value.trim() || byId('filter-worker').value;
  if (!shown) {
    const isUnused = tab === TABS[0] && !isFiltered && !offset;
    showPlaceholder('task-table', 7, isFiltered ? 'No tasks match.' : tab.placeholder, isUnused && SUBMIT_EXAMPLE);
  } else {
    const body = byId('task-table').tBodies[0];
    updateList(body, page.tasks, (task) => task.task_id, row, updateRow);
  }
  const atLeast = page.complete ? '' : ' at least';
  setText('task-count', shown ? `${formatCount(offset + 1)} to ${formatCount(offset + shown)} of${atLeast} ${formatCount(total)}` : '');
  byId('task-newer').disabled = offset === 0;
  byId('task-older').disabled = offset + shown >= total;
}

function row(task) {
  const open = () => detail.open(task.task_id);
  return el(
    'tr',
    { onclick: (event) => event.target.closest('button') || getSelection().toString() || open() },
    el(
      'td',
      { 'data-label': 'Task', class: 'task' },
      el(
        'span',
        { class: 'name' },
        el('button', { type: 'button', class: 'link', onclick: open }, task.name),
        el('small', { class: 'id' }, task.task_id),
      ),
      el('small', { class: 'under why' }),
    ),
    el('td', { 'data-label': 'Status' }, badge(task.status)),
    el('td', { 'data-label': 'Priority' }, el('span', { class: `priority ${task.priority}` }, task.priority)),
    el('td', { 'data-label': 'Worker' }),
    el('td', { 'data-label': 'Attempt', class: 'num' }),
    el('td', { 'data-label': 'Duration', class: 'num' }),
    el('td', { 'data-label': 'Last change' }),
  );
}

function updateRow(node, task) {
  const [name, status, , worker, attempt] = node.cells;
  const why = name.querySelector('.why');
  const progress = task.status === 'started' ? task.progress : null;
  why.classList.toggle('bad', !progress);
  if (progress) showProgress(why, progress);
  else setNodeText(why, task.error ?? '');
  updateBadge(status.firstElementChild, task.status);
  setNodeText(worker, task.worker_id ?? '–');
  worker.toggleAttribute('data-default', !task.worker_id);
  attempt.textContent = task.attempt || '–';
  attempt.toggleAttribute('data-default', task.attempt < 2);
  showTimes(node, task);
}

function showTimes(node, task) {
  const [, , , , , duration, lastChange] = node.cells;
  const now = serverTime ?? new Date().toISOString();
  duration.textContent = formatDuration(secondsBetween(task.started_at, task.completed_at ?? (task.started_at && now))) || '–';
  const at = task.completed_at ?? task.started_at ?? task.created_at;
  lastChange.textContent = relativeTime(at, now);
  lastChange.title = formatTimestamp(at);
}

function showProgress(node, progress) {
  const text = progress.total ? `${formatCount(progress.done)} of ${formatCount(progress.total)}` : formatCount(progress.done);
  const bar = el('span', { class: 'bar' }, el('span'));
  bar.firstElementChild.style.width = `${progress.total ? (100 * progress.done) / progress.total : 0}%`;
  node.replaceChildren(bar, escapeInvisible(` ${[text, progress.message].filter(Boolean).join(' · ')}`));
}
