// Small line charts of the last minutes.

import { svg } from './dom.js';

/** Maximum number of values, one per second. */
export const POINTS = 300;
/** Minimum width of the time axis in seconds, so that a new chart is not stretched. */
const POINTS_MIN = 60;
const WIDTH = 300;
const HEIGHT = 60;

/** The latest values of a quantity. */
export class Series {
  #values = [];

  add(value) {
    this.#values.push(value);
    if (this.#values.length > POINTS) this.#values.shift();
  }

  /** The mean of the last `n` values. */
  mean(n) {
    const last = this.#values.slice(-n).filter((value) => value !== null);
    return last.length ? last.reduce((sum, value) => sum + value, 0) / last.length : 0;
  }

  get values() {
    return this.#values;
  }
}

/** A chart in an existing element. */
export class Chart {
  #line;
  #area;
  #top;
  #format;

  /** `format` formats the maximum, which is shown in the corner. */
  constructor(parent, format) {
    this.#format = format;
    this.#area = svg('path', { class: 'area' });
    this.#line = svg('path', { class: 'line', 'vector-effect': 'non-scaling-stroke' });
    const base = svg('path', { class: 'base', d: `M0 ${HEIGHT - 0.5}H${WIDTH}`, 'vector-effect': 'non-scaling-stroke' });
    this.#top = document.createElement('span');
    this.#top.className = 'top';
    const drawing = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' });
    drawing.append(base, this.#area, this.#line);
    parent.append(drawing, this.#top);
  }

  /** Draws the values, newest at the right. `scaleMin` is the minimum upper end of the scale. */
  draw(values, scaleMin = 0) {
    const known = values.filter((value) => value !== null);
    const top = Math.max(scaleMin, ...known);
    this.#top.textContent = known.length > 1 && top > 0 ? this.#format(top) : '';
    const step = WIDTH / (Math.max(POINTS_MIN, values.length) - 1);
    const start = WIDTH - (values.length - 1) * step;
    const y = (value) => (top > 0 ? HEIGHT - 1 - (value / top) * (HEIGHT - 4) : HEIGHT - 1);
    let line = '';
    let area = '';
    let open = null;
    values.forEach((value, index) => {
      const x = (start + index * step).toFixed(1);
      if (value === null) {
        if (open !== null) area += `V${HEIGHT}H${open}Z`;
        open = null;
        return;
      }
      const point = `${x} ${y(value).toFixed(1)}`;
      line += `${open === null ? 'M' : 'L'}${point}`;
      area += open === null ? `M${x} ${HEIGHT}L${point}` : `L${point}`;
      open ??= x;
    });
    if (open !== null) area += `V${HEIGHT}H${open}Z`;
    this.#line.setAttribute('d', line);
    this.#area.setAttribute('d', area);
  }
}

/** The quantile of a histogram, or null if it is empty. */
export function quantile(bounds, counts, share) {
  const all = counts.reduce((sum, n) => sum + n, 0);
  if (all === 0) return null;
  let below = 0;
  for (const [index, n] of counts.entries()) {
    if (below + n >= share * all && n > 0) {
      if (index >= bounds.length) return bounds.at(-1);
      const low = index === 0 ? 0 : bounds[index - 1];
      return low + (bounds[index] - low) * ((share * all - below) / n);
    }
    below += n;
  }
  return bounds.at(-1);
}
