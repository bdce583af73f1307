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
    const latest = this.#values.slice(-n).filter((value) => value !== null);
    return latest.length ? latest.reduce((sum, value) => sum + value, 0) / latest.length : 0;
  }

  get values() {
    return this.#values;
  }
}

/** A chart in an existing element. */
export class Chart {
  #line;
  #area;
  #maxLabel;
  #format;

  /** `format` formats the maximum, which is shown in the corner. */
  constructor(parent, format) {
    this.#format = format;
    this.#area = svg('path', { class: 'area' });
    this.#line = svg('path', { class: 'line', 'vector-effect': 'non-scaling-stroke' });
    const baseline = svg('path', { class: 'base', d: `M0 ${HEIGHT - 0.5}H${WIDTH}`, 'vector-effect': 'non-scaling-stroke' });
    this.#maxLabel = document.createElement('span');
    this.#maxLabel.className = 'top';
    const drawing = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' });
    drawing.append(baseline, this.#area, this.#line);
    parent.append(drawing, this.#maxLabel);
  }

  /** Draws the values, newest at the right. `scaleMin` is the minimum upper end of the scale. */
  draw(values, scaleMin = 0) {
    const known = values.filter((value) => value !== null);
    const max = Math.max(scaleMin, ...known);
    this.#maxLabel.textContent = known.length > 1 && max > 0 ? this.#format(max) : '';
    const step = WIDTH / (Math.max(POINTS_MIN, values.length) - 1);
    const start = WIDTH - (values.length - 1) * step;
    const y = (value) => (max > 0 ? HEIGHT - 1 - (value / max) * (HEIGHT - 4) : HEIGHT - 1);
    let line = '';
    let area = '';
    let areaStart = null;
    values.forEach((value, index) => {
      const x = (start + index * step).toFixed(1);
      if (value === null) {
        if (areaStart !== null) area += `V${HEIGHT}H${areaStart}Z`;
        areaStart = null;
        return;
      }
      const point = `${x} ${y(value).toFixed(1)}`;
      line += `${areaStart === null ? 'M' : 'L'}${point}`;
      area += areaStart === null ? `M${x} ${HEIGHT}L${point}` : `L${point}`;
      areaStart ??= x;
    });
    if (areaStart !== null) area += `V${HEIGHT}H${areaStart}Z`;
    this.#line.setAttribute('d', line);
    this.#area.setAttribute('d', area);
  }
}

/** The quantile of a histogram, or null if it is empty. */
export function quantile(bounds, counts, fraction) {
  const total = counts.reduce((sum, n) => sum + n, 0);
  if (total === 0) return null;
  let below = 0;
  for (const [index, n] of counts.entries()) {
    if (below + n >= fraction * total && n > 0) {
      if (index >= bounds.length) return bounds.at(-1);
      const low = index === 0 ? 0 : bounds[index - 1];
      return low + (bounds[index] - low) * ((fraction * total - below) / n);
    }
    below += n;
  }
  return bounds.at(-1);
}
