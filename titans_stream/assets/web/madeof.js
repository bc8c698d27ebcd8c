// What a series' surprise is made of: the detector's channels, each above its own usual.
import { get } from "./api.js";
import { h, show } from "./dom.js";
import { count, number, when } from "./format.js";

const FULL = 4; // a score from which on a channel is drawn in full colour
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * A section about `series` between two times in seconds (nulls: all), filled when asked for.
 * `begun(true)` hears that it was; `range()` gives the times.
 */
export function madeOf(root, series, signal, range, { begun = null, open = false, heading = "h2" } = {}) {
  const answer = h("div", { class: "answer", "aria-live": "polite" });
  const button = h("button", { type: "button", onclick: () => { begun?.(true); load(); } }, "Show the channels");
  let told = null;
  const canvases = [];
  root.append(h(heading, {}, "What the surprise is made of"), h("p", { class: "muted" },
    "The detector's channels, by the service's own engine over the kept history, from an empty memory: early scores can differ from those of the worker."), button, answer);

  async function load() {
    button.disabled = true;
    if (!told) show(answer, h("p", { class: "hint" }, "running … the first time, kernels are loaded or compiled, which can take a minute"));
    try {
      const [begin, end] = range();
      told = await get("/channels", { series, begin, end }, signal);
      draw();
    } catch (error) {
      if (error.name !== "AbortError") show(answer, h("p", { class: "problem", role: "alert" }, error.message));
    } finally {
      button.disabled = false;
      button.replaceChildren(told ? "Again, with what came since" : "Show the channels");
    }
  }

  function draw() {
    if (!told.time.length) { show(answer, h("p", { class: "hint" }, "No kept readings lie in this time.")); return; }
    const highest = told.scores.map((column) => column.reduce((most, one) => (one !== null && one > most ? one : most), -Infinity));
    const cause = highest.indexOf(Math.max(...highest));
    canvases.length = 0;
    const rows = told.channels.map((channel, i) => {
      const strip = h("canvas", { role: "img", "aria-label": `${channel.name}: highest ${number(highest[i], 3)}` });
      canvases.push([strip, told.scores[i]]);
      return h("tr", { class: i === cause ? "cause" : null },
        h("th", { scope: "row", title: channel.meaning }, channel.name), h("td", { class: "strip" }, strip),
        h("td", { class: "num" }, Number.isFinite(highest[i]) ? number(highest[i], 3) : "–"));
    });
    show(answer,
      Number.isFinite(highest[cause]) ? h("p", {}, "Highest: ", h("strong", {}, told.channels[cause].name), ` (${told.channels[cause].meaning})`) : h("p", { class: "hint" }, "The channels are still warming up here."),
      h("div", { class: "scroll" }, h("table", { class: "made-of" },
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Channel"),
          h("th", { scope: "col" }, `${when(iso(told.time[0]))} to ${when(iso(told.time.at(-1)))}, ${count(told.readings)} readings learned from`),
          h("th", { scope: "col", class: "num" }, "Highest"))),
        h("tbody", {}, rows))));
    canvases.forEach(([strip]) => sizes.observe(strip));
    paint();
  }

  const iso = (seconds) => new Date(seconds * 1000).toISOString();

  function paint() {
    const ink = colour("--critical");
    const [first, last] = [told.time[0], told.time.at(-1)];
    for (const [strip, scores] of canvases) {
      strip.width = Math.max(1, Math.round(strip.clientWidth * devicePixelRatio));
      strip.height = Math.round(14 * devicePixelRatio);
      const drawing = strip.getContext("2d");
      const x = (time) => ((time - first) / Math.max(last - first, 1)) * (strip.width - 2);
      const usual = (last - first) / Math.max(told.time.length - 1, 1);
      drawing.fillStyle = ink;
      told.time.forEach((time, i) => {
        if (scores[i] === null || scores[i] <= 0) return;
        const until = Math.min(told.time[i + 1] ?? time + usual, time + 2 * usual);
        drawing.globalAlpha = Math.min(1, scores[i] / FULL);
        drawing.fillRect(x(time), 0, Math.max(x(until) - x(time), 2), strip.height);
      });
    }
  }

  const sizes = new ResizeObserver(() => told && paint());
  const repaint = () => told && paint();
  document.addEventListener("theme", repaint);
  if (open) load();
  return {
    moved() { if (told) load(); },
    close() { sizes.disconnect(); document.removeEventListener("theme", repaint); },
  };
}
