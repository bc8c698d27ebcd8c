// Pictures of a series: values in their band with episodes marked, and how far over the budget.
import { number, times } from "./format.js";

const { uPlot } = globalThis;

/** Where the scale of times of the budget begins: what is more usual still is drawn there. */
const LEAST = 1e-3;
const SMALL_SHARE = 0.05;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Columns for the chart: readings, then the forecast; a gap breaks the lines. */
function columns(readings) {
  const names = ["time", "lower", "upper", "expected", "value", "alerted", "over", "surprise", "median", "low", "high", "lowest", "highest"];
  const data = Object.fromEntries(names.map((name) => [name, []]));
  const put = (row) => names.forEach((name) => data[name].push(row[name] ?? null));
  const r = readings;
  r.time.forEach((time, i) => {
    if (r.gap[i] && i) put({ time: (r.time[i - 1] + time) / 2 });
    const alerted = !aside(r, time) && (r.alert[i] || (r.alert[i + 1] && !r.gap[i + 1]) || (r.alert[i - 1] && !r.gap[i]));
    put({ time, lower: r.lower[i], upper: r.upper[i], expected: r.expected[i], value: r.value[i],
      alerted: alerted ? r.value[i] : null, over: r.over[i] === null ? null : Math.max(LEAST, r.over[i]), surprise: r.surprise[i] });
  });
  const f = r.forecast;
  if (f && !(f.time.at(-1) < r.time.at(-1))) {
    const levels = Object.keys(f.quantiles).map(Number).sort((a, b) => a - b);
    const of = (level) => f.quantiles[Object.keys(f.quantiles).find((text) => Number(text) === level)];
    const outer = levels.length ? [levels[0], levels.at(-1)] : [];
    const inner = levels.length > 3 ? [levels[1], levels.at(-2)] : [];
    // the forecast of times that have been reached is drawn over them, in its own rows
    const rows = f.time.map((time, i) => ({
      time, median: f.median[i],
      lowest: outer.length ? of(outer[0])[i] : null, highest: outer.length ? of(outer[1])[i] : null,
      low: inner.length ? of(inner[0])[i] : null, high: inner.length ? of(inner[1])[i] : null,
    }));
    return merged(data, rows, names);
  }
  return data;
}

/** Whether a series had next to no part in the episode of its group at a time. */
function aside(readings, time) {
  return readings.episodes.some((e) => {
    const one = e.channels.find((channel) => channel.series_id === readings.series_id);
    return one && one.share < SMALL_SHARE && seconds(e.onset) <= time && (e.open || time <= seconds(e.timestamp));
  });
}

function merged(data, rows, names) {
  const at = new Map(data.time.map((time, i) => [time, i]));
  const extra = [];
  for (const row of rows) {
    const i = at.get(row.time);
    if (i === undefined) extra.push(row);
    else for (const name of ["median", "low", "high", "lowest", "highest"]) data[name][i] = row[name];
  }
  if (!extra.length) return data;
  const all = data.time.map((_, i) => Object.fromEntries(names.map((name) => [name, data[name][i]])));
  all.push(...extra);
  all.sort((a, b) => a.time - b.time);
  return Object.fromEntries(names.map((name) => [name, all.map((row) => row[name] ?? null)]));
}

const seconds = (text) => Date.parse(text) / 1000;

/** Shades episodes behind the lines and puts a bar with a mark above them. */
function episodes(state) {
  return {
    hooks: {
      drawClear: (u) => each(u, state.readings.episodes, (e, x0, x1) => {
        const { top, height } = u.bbox;
        u.ctx.fillStyle = colour(e.severity === "critical" ? "--critical-area" : "--warning-area");
        u.ctx.fillRect(x0, top, x1 - x0, height);
      }),
      draw: (u) => {
        const { top, left, width, height } = u.bbox;
        const unit = devicePixelRatio;
        u.ctx.save();
        u.ctx.beginPath();
        u.ctx.rect(left, 0, width, top + height);
        u.ctx.clip();
        each(u, state.readings.episodes, (e, x0, x1) => {
          const bold = e.alert_id === state.marked;
          u.ctx.fillStyle = colour(e.severity === "critical" ? "--critical" : "--warning");
          normal(u, normalOf(e, state.readings.series_id), x0, x1);
          u.ctx.fillRect(x0, top - 4 * unit, x1 - x0, (bold ? 5 : 3) * unit);
          u.ctx.beginPath();
          u.ctx.moveTo(x0 - 5 * unit, top - 12 * unit);
          u.ctx.lineTo(x0 + 5 * unit, top - 12 * unit);
          u.ctx.lineTo(x0, top - 4 * unit);
          u.ctx.fill();
        });
        (state.lanes || []).forEach((lane, i) => each(u, lane.episodes, (e, x0, x1) => {
          u.ctx.fillStyle = colour(lane.colour);
          u.ctx.fillRect(x0, top + height - (16 - 8 * i) * unit, Math.max(x1 - x0, 4 * unit), 6 * unit);
        }));
        u.ctx.restore();
      },
    },
  };
}

/** What an alert says would have been normal for this series, where it says so. */
function normalOf(episode, series) {
  const one = episode.channels.find((channel) => channel.series_id === series) || (episode.series_id === series ? episode : null);
  return one && one.lower !== null && one.upper !== null ? one : null;
}

function normal(u, one, x0, x1) {
  if (!one) return;
  u.ctx.save();
  u.ctx.strokeStyle = colour("--good");
  u.ctx.lineWidth = 1.5 * devicePixelRatio;
  u.ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
  for (const edge of [one.lower, one.upper]) {
    const y = u.valToPos(edge, "y", true);
    u.ctx.beginPath();
    u.ctx.moveTo(x0, y);
    u.ctx.lineTo(x1, y);
    u.ctx.stroke();
  }
  u.ctx.restore();
}

function each(u, list, draw) {
  const { left, width } = u.bbox;
  const last = u.data[0].at(-1);
  for (const e of list) {
    const from = seconds(e.onset);
    const to = e.open ? Math.max(last, from) : seconds(e.timestamp ?? e.end);
    const x0 = u.valToPos(from, "x", true);
    const x1 = Math.max(u.valToPos(to, "x", true), x0 + 2 * devicePixelRatio);
    if (x1 >= left && x0 <= left + width) draw(e, Math.max(x0, left - 6), Math.min(x1, left + width));
  }
}

const decades = (u, ticks) => ticks.map((tick) => (Number.isInteger(Number(Math.log10(tick).toFixed(6))) ? tick : null));
const asTimes = (tick) => (tick === null ? null : tick >= 1 ? `${tick}×` : `1/${Math.round(1 / tick)}`);

function axes(more = {}) {
  const line = { stroke: colour("--muted"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { stroke: colour("--grid"), width: 1 }, font: "11px system-ui, sans-serif" };
  const marked = more.filter ? { filter: more.filter } : {};
  return [
    { ...line, space: 74, values: clock },
    { ...line, size: 62, values: (u, ticks) => ticks.map((tick) => number(tick, 6)), ...more,
      grid: { ...line.grid, ...marked }, ticks: { ...line.ticks, ...marked } },
  ];
}

const two = (n) => String(n).padStart(2, "0");

/** Marks of the time axis: hours and minutes, the day where it begins. */
function clock(u, ticks, axis, space, step) {
  let day = "";
  return ticks.map((tick) => {
    const t = new Date(tick * 1000);
    const date = `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())}`;
    if (step >= 86400) return date;
    const time = `${two(t.getHours())}:${two(t.getMinutes())}${step < 60 ? `:${two(t.getSeconds())}` : ""}`;
    const label = date === day ? time : `${time}\n${date}`;
    day = date;
    return label;
  });
}

const text = (digits) => (u, value) => (value === null || value === undefined ? "–" : number(value, digits));

function valueOptions(state, width, height) {
  const edge = { stroke: "transparent", width: 0, points: { show: false } };
  const fan = colour("--fan");
  return {
    width, height, padding: [14, 8, 0, 0],
    plugins: [episodes(state)],
    cursor: { drag: { x: true, y: false }, sync: state.sync ? { key: state.sync } : undefined, points: { size: 7 } },
    legend: { live: true },
    axes: axes(),
    scales: { x: { time: true } },
    series: [
      { label: "time", value: (u, t) => (t ? new Date(t * 1000).toLocaleString() : "–") },
      { ...edge, label: "normal from", value: text(5) }, { ...edge, label: "to", value: text(5) },
      { label: "expected", stroke: colour("--expected"), width: 1, dash: [4, 3], points: { show: false }, value: text(5) },
      { label: "value", stroke: colour("--value"), width: 1.5, points: { show: state.readings.time.length < 150, size: 4 }, value: text(6) },
      { label: "in an alert", stroke: colour("--critical"), width: 2.5, points: { show: true, size: 4, fill: colour("--critical") }, value: text(6) },
      { label: "forecast", stroke: colour("--forecast"), width: 1.5, points: { show: false }, value: text(5) },
      { ...edge, label: "", value: () => "" }, { ...edge, label: "", value: () => "" }, { ...edge, label: "", value: () => "" }, { ...edge, label: "", value: () => "" },
    ],
    bands: [
      { series: [2, 1], fill: colour("--band") },
      { series: [10, 9], fill: fan }, { series: [8, 7], fill: fan },
    ],
  };
}

function overOptions(state, width, height, which) {
  const isOver = which === "over";
  const threshold = {
    hooks: {
      draw: (u) => {
        if (!isOver) return;
        const y = u.valToPos(1, "y", true);
        const { left, width: wide, top, height: high } = u.bbox;
        if (y < top || y > top + high) return;
        u.ctx.save();
        u.ctx.strokeStyle = colour("--critical");
        u.ctx.setLineDash([6, 4]);
        u.ctx.lineWidth = devicePixelRatio;
        u.ctx.beginPath();
        u.ctx.moveTo(left, y);
        u.ctx.lineTo(left + wide, y);
        u.ctx.stroke();
        u.ctx.restore();
      },
    },
  };
  return {
    width, height, padding: [8, 8, 0, 0],
    plugins: [threshold],
    cursor: { drag: { x: true, y: false }, sync: { key: state.sync }, points: { size: 7 } },
    axes: axes(isOver ? { filter: decades, values: (u, ticks) => ticks.map(asTimes) } : {}),
    scales: { x: { time: true }, y: isOver ? { distr: 3, log: 10, range: (u, low, high) => [LEAST, Math.max(high || 1, 10) * 1.5] } : {} },
    series: [
      { label: "time", value: (u, t) => (t ? new Date(t * 1000).toLocaleString() : "–") },
      { label: isOver ? "times the budget" : "surprise", stroke: colour("--value"), width: 1.2, points: { show: false },
        value: (u, value) => (value === null || value === undefined ? "–" : isOver ? (value >= 1 ? times(value) : number(value, 2)) : number(value, 4)) },
    ],
  };
}

/**
 * Draws `readings` (of /v1/readings) into `root`. `lower`: also "over" or "surprise" below.
 * `moved(from, to)` hears of zoom and pan, nulls for all. Returns handles to update and close it.
 */
export function chartOf(root, readings, options = {}) {
  const state = { readings, marked: options.marked, lanes: options.lanes, sync: options.lower ? `chart-${Math.random()}` : null };
  let range = { from: options.from ?? null, to: options.to ?? null };
  let plots = [];
  let setting = false;

  root.tabIndex = 0;
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", `${options.label || "chart"}; arrow keys move, plus and minus zoom, 0 shows all`);

  const width = () => Math.max(280, root.clientWidth);

  function build() {
    plots.forEach((plot) => plot.destroy());
    const data = columns(state.readings);
    root.classList.toggle("no-forecast", !state.readings.forecast);
    const main = new uPlot(valueOptions(state, width(), options.height || 300),
      ["time", "lower", "upper", "expected", "value", "alerted", "median", "low", "high", "lowest", "highest"].map((name) => data[name]), root);
    plots = [main];
    if (options.lower) plots.push(new uPlot(overOptions(state, width(), 130, options.lower), [data.time, data[options.lower]], root));
    plots.forEach((plot) => {
      plot.over.addEventListener("wheel", wheel(plot), { passive: false });
      plot.over.addEventListener("pointerdown", drag(plot));
      plot.over.addEventListener("dblclick", () => move(null, null));
      plot.hooks.setScale = [...(plot.hooks.setScale || []), (u, key) => {
        if (key === "x" && !setting && u.status === 1) move(u.scales.x.min, u.scales.x.max, u);
      }];
    });
    apply();
  }

  const extent = () => {
    const time = plots[0].data[0];
    return [time[0] ?? 0, time.at(-1) ?? 1];
  };

  function apply(except = null) {
    const [first, last] = extent();
    const from = range.from ?? first;
    const to = range.to ?? last;
    if (!(to > from)) return;
    setting = true;
    plots.forEach((plot) => { if (plot !== except) plot.setScale("x", { min: from, max: to }); });
    queueMicrotask(() => { setting = false; });
  }

  function move(from, to, source = null) {
    const [first, last] = extent();
    if (from !== null && from <= first && to >= last) { from = null; to = null; }
    range = { from, to };
    apply(source);
    options.moved?.(from, to);
  }

  function zoom(factor, centre = 0.5) {
    const { min, max } = plots[0].scales.x;
    const at = min + (max - min) * centre;
    move(at - (at - min) * factor, at + (max - at) * factor);
  }

  function pan(share) {
    const { min, max } = plots[0].scales.x;
    const by = (max - min) * share;
    move(min + by, max + by);
  }

  const wheel = (plot) => (event) => {
    if (!event.ctrlKey && document.activeElement !== root && !root.contains(document.activeElement)) return;
    event.preventDefault();
    const box = plot.over.getBoundingClientRect();
    if (event.shiftKey) pan(Math.sign(event.deltaY || event.deltaX) * 0.1);
    else zoom(event.deltaY > 0 ? 1.25 : 0.8, (event.clientX - box.left) / box.width);
  };

  const drag = (plot) => (event) => {
    root.focus({ preventScroll: true });
    if (!event.shiftKey) return;
    event.stopPropagation();
    event.preventDefault();
    const { min, max } = plot.scales.x;
    const per = (max - min) / plot.over.clientWidth;
    const begun = event.clientX;
    const moving = (one) => move(min - (one.clientX - begun) * per, max - (one.clientX - begun) * per);
    window.addEventListener("pointermove", moving);
    window.addEventListener("pointerup", () => window.removeEventListener("pointermove", moving), { once: true });
  };

  const sizes = new ResizeObserver(() => plots.forEach((plot, i) => plot.setSize({ width: width(), height: i ? 130 : options.height || 300 })));
  sizes.observe(root);
  document.addEventListener("theme", build);
  build();

  return {
    update(next, lanes = state.lanes) {
      state.readings = next;
      state.lanes = lanes;
      const had = plots[0].data[0].length > 0;
      if (!had || lanes !== state.drawn) { state.drawn = lanes; build(); return; }
      const data = columns(next);
      setting = true;
      plots[0].setData(["time", "lower", "upper", "expected", "value", "alerted", "median", "low", "high", "lowest", "highest"].map((name) => data[name]), false);
      plots[1]?.setData([data.time, data[options.lower]], false);
      setting = false;
      plots.forEach((plot) => plot.redraw(true, true));
      apply();
    },
    lower(which) { options.lower = which; build(); },
    reset() { move(null, null); },
    show(from, to) { move(from, to); },
    key(event) {
      const inside = root === document.activeElement || root.contains(document.activeElement);
      if (event.key === "+" || event.key === "=") zoom(0.7);
      else if (event.key === "-") zoom(1 / 0.7);
      else if (event.key === "0") move(null, null);
      else if (event.key === "ArrowLeft" && inside) pan(-0.2);
      else if (event.key === "ArrowRight" && inside) pan(0.2);
      else return false;
      return true;
    },
    close() { sizes.disconnect(); document.removeEventListener("theme", build); plots.forEach((plot) => plot.destroy()); },
  };
}
