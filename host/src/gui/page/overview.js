// The summary: cards with charts, workers, modules and the result cache.

import { relativeTime, badge, secondsBetween, byId, formatBytes, formatTimeOfDay, formatCount, el, updateList, formatTimestamp, formatRate, formatDuration, updateBadge, setText, escapeInvisible } from './dom.js';
import { Chart, Series, quantile } from './charts.js';
import { get } from './server.js';

/** Seconds over which the rates are averaged. */
const RATE_WINDOW = 3;
/** Seconds over which the quantiles of task times are computed. */
const QUANTILE_WINDOW = 30;

const charts = {};
const series = {};
let previous = null;
/** The overviews of the last seconds, to compute differences. */
const recent = [];

export function start() {
  const formats = { busy: formatCount, success: (max) => `${formatRate(max)}/s`, failure: (max) => `${formatRate(max)}/s`, time: formatDuration };
  for (const name of Object.keys(formats)) {
    charts[name] = new Chart(byId(`chart-${name}`), formats[name]);
    series[name] = new Series();
  }
  showPlaceholder('worker-table', 4, 'No worker yet. Start one:', 'fastworker subworker --task-modules X.wasm');
  byId('modules').append(el('p', { class: 'empty' }, 'No modules loaded.'));
}

/** Shows a placeholder row in an empty table. */
export function showPlaceholder(table, columns, text, command) {
  byId(table).tBodies[0].replaceChildren(
    el('tr', { class: 'empty' }, el('td', { colspan: columns }, text, command && ' ', command && el('code', {}, command))),
  );
}

/** After a disconnection the charts get a gap, and the counters may restart at 0. */
export function markDisconnected() {
  if (!previous) return;
  previous = null;
  recent.length = 0;
  for (const values of Object.values(series)) values.add(null);
}

/** Shows an overview, which arrives every second. */
export function update(overview) {
  setText('worker', overview.worker_id);
  setText('version', `v${overview.version}`);
  setText('uptime', `up ${formatDuration(Math.floor(overview.uptime_seconds))}`);
  document.title = `${escapeInvisible(overview.worker_id)} · fastworker`;
  showQueues(overview);
  showRates(overview);
  showWorkers(overview);
  showCache(overview.cache);
}

function showQueues(overview) {
  const total = overview.queues.reduce((sum, queue) => sum + queue.count, 0);
  const max = Math.max(1, ...overview.queues.map((queue) => queue.count));
  setText('waiting', formatCount(total));
  setText('due', overview.due ? `${formatCount(overview.due)} scheduled tasks and retries` : 'no scheduled tasks or retries');
  updateList(
    byId('queues'),
    overview.queues,
    (queue) => queue.priority,
    (queue) =>
      el(
        'div',
        { class: `queue ${queue.priority}` },
        el('dt', {}, queue.priority),
        el('dd', {}, el('span', { class: 'bar' }, el('span')), el('b'), el('small')),
      ),
    (node, queue) => {
      node.querySelector('.bar span').style.width = `${(100 * queue.count) / max}%`;
      node.querySelector('b').textContent = formatCount(queue.count);
      node.querySelector('small').textContent = queue.count ? formatDuration(queue.oldest_age_seconds) : '';
      node.querySelector('small').title = queue.count ? 'waiting time of the oldest task' : '';
    },
  );
}

function showRates(overview) {
  const seconds = secondsBetween(previous?.at, overview.at);
  if (seconds > 0) {
    // A background tab, or a machine that was suspended, receives overviews less often.
    const repeats = Math.min(60, Math.max(1, Math.round(seconds)));
    const perSecond = (to, from) => Math.max(0, to - from) / seconds;
    for (let n = 0; n < repeats; n += 1) {
      series.success.add(perSecond(overview.ended.success, previous.ended.success));
      series.failure.add(perSecond(overview.ended.failure, previous.ended.failure));
      series.busy.add(overview.busy);
    }
    recent.push(previous);
    if (recent.length > QUANTILE_WINDOW) recent.shift();
    const counts = overview.took.counts.map((n, index) => n - recent[0].took.counts[index]);
    const median = quantile(overview.took.bounds, counts, 0.5);
    const p99 = quantile(overview.took.bounds, counts, 0.99);
    series.time.add(median);
    setText('time-median', median === null ? '–' : formatDuration(median));
    setText('time-p99', p99 === null ? 'no task ended recently' : `99 % within ${formatDuration(p99)}`);
  }
  previous = overview;
  setText('rate-success', formatRate(series.success.mean(RATE_WINDOW)));
  setText('rate-failure', formatRate(series.failure.mean(RATE_WINDOW)));
  byId('rate-failure').classList.toggle('bad', series.failure.mean(RATE_WINDOW) > 0);
  setText('success-total', `${formatCount(overview.ended.success)} since the start`);
  const cancelled = overview.ended.cancelled ? `, ${formatCount(overview.ended.cancelled)} cancelled` : '';
  setText('failure-total', `${formatCount(overview.ended.failure)} since the start${cancelled}`);
  setText('busy', formatCount(overview.busy));
  setText('slots', `of ${formatCount(overview.slots)} slots`);
  byId('busy-meter').firstElementChild.style.width = `${overview.slots ? (100 * overview.busy) / overview.slots : 0}%`;
  charts.busy.draw(series.busy.values, overview.slots);
  charts.success.draw(series.success.values);
  charts.failure.draw(series.failure.values, 1);
  charts.time.draw(series.time.values);
}

function showWorkers(overview) {
  const countOf = (status) => overview.workers.filter((worker) => worker.status === status).length;
  const parts = ['active', 'draining', 'lost'].filter((status) => countOf(status)).map((status) => `${countOf(status)} ${status}`);
  setText('workers-foot', overview.workers.length ? `workers: ${parts.join(', ')}` : 'no worker is connected');
  if (!overview.workers.length) {
    return showPlaceholder('worker-table', 4, 'No worker yet. Start one:', 'fastworker subworker --task-modules X.wasm');
  }
  const body = byId('worker-table').tBodies[0];
  const order = { active: 0, draining: 1, lost: 2 };
  const sorted = overview.workers.toSorted((a, b) => order[a.status] - order[b.status] || a.id.localeCompare(b.id));
  updateList(body, sorted, (worker) => `${worker.id} ${worker.registered_at}`, workerRow, (row, worker) => {
    const [name, status, load, attempts] = row.cells;
    const since = name.querySelector('.since');
    updateBadge(status.firstElementChild, worker.status);
    load.querySelector('.bar span').style.width = `${(100 * worker.load) / worker.slots}%`;
    load.querySelector('small').textContent = `${worker.load} of ${worker.slots}`;
    attempts.textContent = formatCount(worker.attempts);
    attempts.title = `${formatCount(worker.tasks)} tasks of ${formatCount(worker.modules)} modules are loaded`;
    const text = worker.status === 'lost' ? `last seen ${relativeTime(worker.last_seen, overview.at)}` : `since ${relativeTime(worker.registered_at, overview.at).replace(' ago', '')}`;
    since.textContent = text;
    since.title = `${escapeInvisible(worker.address)}, registered ${formatTimestamp(worker.registered_at)}, last seen ${formatTimestamp(worker.last_seen)}`;
  });
}

function workerRow(worker) {
  const own = worker.is_control_plane ? 'own slots, ' : '';
  return el(
    'tr',
    {},
    el('td', { 'data-label': 'Worker' }, el('b', {}, worker.id), el('small', { class: 'under' }, own, el('span', { class: 'since' }))),
    el('td', { 'data-label': 'Status' }, badge(worker.status)),
    el('td', { 'data-label': 'Load' }, el('span', { class: 'load' }, el('span', { class: 'bar' }, el('span')), el('small'))),
    el('td', { 'data-label': 'Attempts', class: 'num' }),
  );
}

function showCache(cache) {
  const bar = (label, value, max, text) =>
    el(
      'div',
      { class: 'fill' },
      el('span', {}, label),
      el('span', { class: 'bar', 'aria-hidden': 'true' }, widthOf(el('span'), value / Math.max(1, max))),
      el('small', {}, text),
    );
  const share = (status) =>
    cache[status] > 0 && el('span', { class: 'share' }, badge(status), ` ${formatCount(cache[status])}`);
  const removed = [
    cache.evicted && `${formatCount(cache.evicted)} evicted`,
    cache.expired && `${formatCount(cache.expired)} expired`,
  ].filter(Boolean);
  byId('cache').replaceChildren(
    bar('Results', cache.size, cache.size_max, `${formatCount(cache.size)} of ${formatCount(cache.size_max)}`),
    bar('Memory', cache.bytes, cache.bytes_max, `${formatBytes(cache.bytes)} of ${formatBytes(cache.bytes_max)}`),
    el('p', { class: 'shares' }, share('success'), share('failure'), share('cancelled'), !cache.size && 'No results yet.'),
    el('p', { class: 'note' }, `Results are kept for ${formatDuration(cache.ttl_seconds)}. `, removed.length ? `${removed.join(', ')}.` : ''),
  );
}

function widthOf(node, share) {
  node.style.width = `${Math.min(100, 100 * share)}%`;
  return node;
}

// --- Modules ---

let isLoading = false;
let loadAgain = false;

/** Loads the modules and shows them. */
export async function loadModules() {
  if (isLoading) {
    loadAgain = true;
    return;
  }
  isLoading = true;
  try {
    const { modules } = await get('/api/modules');
    drawModules(modules);
    const names = new Set(modules.flatMap((module) => module.tasks.map((task) => task.name)));
    byId('task-names').replaceChildren(...[...names].sort().map((name) => el('option', { value: name })));
  } catch {
    // The event stream reports when the server does not respond.
  }
  isLoading = false;
  if (loadAgain) {
    loadAgain = false;
    setTimeout(loadModules, 500);
  }
}

/** Shows one entry for each version of a module, with its workers.  */
function drawModules(loaded) {
  const versions = new Map();
  for (const module of loaded) {
    const key = JSON.stringify([module.name, module.hash, module.status, module.last_error?.message]);
    const known = versions.get(key);
    if (known) known.workers.push(module.worker_id);
    else versions.set(key, { ...module, workers: [module.worker_id] });
  }
  const parent = byId('modules');
  if (!versions.size) return parent.replaceChildren(el('p', { class: 'empty' }, 'No modules loaded.'));
  parent.querySelector(':scope > .empty')?.remove();
  const sorted = [...versions].sort(([, a], [, b]) => a.name.localeCompare(b.name) || b.loaded_at.localeCompare(a.loaded_at));
  const state = ([key, module]) => `${key} ${module.workers.join()}`;
  updateList(parent, sorted, state, ([, module]) => moduleEntry(module), () => {});
}

function moduleEntry(module) {
  const error = module.last_error;
  // A function of a plain component is shown under its short name, if it has one.
  const hasShortName = new Set(module.tasks.map((task) => task.full_name));
  const tasks = module.tasks.filter((task) => task.full_name || !hasShortName.has(task.name));
  return el(
    'details',
    { class: 'module' },
    el(
      'summary',
      {},
      el('b', {}, module.name),
      el('code', { title: `BLAKE3 ${module.hash}` }, module.hash.slice(0, 16)),
      module.status !== 'loaded' && badge(module.status),
      error && module.status !== 'broken' && badge('refused'),
      el('small', {}, module.hash ? `${formatBytes(module.size)} · ${formatCount(tasks.length)} ${tasks.length === 1 ? 'task' : 'tasks'} · loaded ${formatTimeOfDay(module.loaded_at)}` : module.path),
      el('small', { class: 'on' }, module.workers.join(', ')),
    ),
    error && el('pre', { class: 'bad' }, `${formatTimestamp(error.at)}: ${error.message}`),
    el('p', { class: 'note' }, module.hash ? `${module.path} · ${module.engine} engine · loaded ${formatTimestamp(module.loaded_at)}` : `${module.path} · ${module.status === 'loading' ? 'compiling, or registering its tasks' : 'could not be loaded'}`),
    module.imports.length > 0 && el('p', { class: 'note' }, `imports ${module.imports.join(', ')}`),
    el('ul', {}, tasks.map((task) => el('li', {}, el('code', {}, signature(task)), task.documentation && el('p', {}, task.documentation)))),
    (module.not_callable ?? []).map(({ name, reason }) => el('p', { class: 'note' }, `not callable: ${name}, as ${reason}`)),
  );
}

/** The signature of a task. */
function signature(task) {
  // The schema comes from the module and may contain any value.
  const { parameters, result } = task.schema ?? {};
  const parameterList = (Array.isArray(parameters) ? parameters : [])
    .filter(Boolean)
    .map(({ name, type, required }) => `${stringOrEllipsis(name)}${required ? '' : '?'}${type ? `: ${stringOrEllipsis(type)}` : ''}`);
  const type = typeof result === 'string' ? result : result?.type;
  return `${task.name}(${parameterList.join(', ')})${type ? ` → ${stringOrEllipsis(type)}` : ''}`;
}

/** Replaces a value that is not a string. */
const stringOrEllipsis = (value) => (typeof value === 'string' ? value : '…');
