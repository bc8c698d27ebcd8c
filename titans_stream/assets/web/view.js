// One series, or a group with its channels: history, episodes, forecast, what-if.
import { get } from "./api.js";
import { chartOf } from "./chart.js";
import { h, show } from "./dom.js";
import { band, count, number, often, when } from "./format.js";
import { madeOf } from "./madeof.js";
import { alertLink, calmly, chip, lasting, overText, seriesLink, severityChip } from "./parts.js";
import { whatIf } from "./whatif.js";

export const name = "series-view";
export const title = "Series";
const RANGES = [["1 h", 3600], ["6 h", 21600], ["24 h", 86400], ["7 d", 604800], ["all", null]];
const MOST_CHANNELS = 12;

export async function open(main, page, signal) {
  const id = page.params.get("id") || "";
  const head = h("header", { class: "head" });
  const bar = h("div", { class: "bar" });
  const place = h("div", { class: "chart" });
  const trial = h("section", { class: "what-if", "aria-label": "what if" });
  const members = h("section", { class: "members" });
  const made = h("section", { class: "made", "aria-label": "channels of the surprise" });
  const list = h("section", {});
  main.append(head, bar, place, members, made, trial, list);

  let told = await load();
  let chart = null;
  let channels = null;
  const small = new Map();
  const lower = () => (page.params.get("below") === "surprise" ? "surprise" : "over");
  const asked = (key) => (page.params.get(key) === null ? null : Number(page.params.get(key)));

  async function load() {
    return get("/readings", { series: id }, signal);
  }

  function drawHead() {
    const last = told.time.length - 1;
    show(head, 
      h("h1", {}, chip(told.state), " ", told.series_id),
      h("p", { class: "muted" },
        told.group ? ["channel of ", seriesLink(told.group), " · "] : null,
        last >= 0 ? [h("strong", { class: "now" }, number(told.value[last], 6)), ` (normal ${band(told.lower[last], told.upper[last])}) at ${when(new Date(told.time[last] * 1000).toISOString(), true)} · `] : null,
        `budget ${often(told.budget_per_day)}`,
        told.kept ? ` · ${count(told.kept)} readings kept${told.shown < told.kept ? `, ${count(told.shown)} drawn` : ""}` : null));
  }

  function drawBar() {
    const all = asked("from") === null;
    show(bar, 
      h("div", { class: "ranges", role: "group", "aria-label": "range" }, RANGES.map(([text, length]) => h("button", {
        type: "button", "aria-pressed": length === null ? String(all) : null,
        onclick: () => { if (length === null) chart.reset(); else { const end = told.time.at(-1); chart.show(end - length, end); } },
      }, text))),
      h("div", { class: "ranges", role: "group", "aria-label": "below the values" }, [["over", "times the budget"], ["surprise", "surprise"]].map(([which, text]) => h("button", {
        type: "button", "aria-pressed": String(lower() === which),
        onclick: () => { page.set({ below: which === "over" ? null : which }); chart.lower(which); drawBar(); },
      }, text))),
      h("span", { class: "hint" }, "drag to zoom, shift-drag to move, double-click for all"));
  }

  function drawList() {
    const one = told.episodes;
    show(list, h("h2", {}, one.length ? `${count(one.length)} ${one.length === 1 ? "alert" : "alerts"}` : "No alerts"), one.length ? h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, ["", "Onset", "Lasted", "Over", "What happened"].map((text) => h("th", { scope: "col" }, text || h("span", { class: "hidden" }, "State"))))),
      h("tbody", {}, one.map((e) => h("tr", {},
        h("td", {}, severityChip(e)), h("td", { class: "nowrap" }, alertLink(e.alert_id, when(e.onset, true))), h("td", { class: "nowrap" }, lasting(e)),
        h("td", { class: "nowrap" }, overText(e)), h("td", {}, e.series_id === id ? "" : h("em", {}, `${e.series_id}: `), e.explanation)))))) : "");
  }

  function draw() {
    drawHead();
    drawList();
    if (told.members.length) { place.remove(); bar.remove(); drawMembers(); return; }
    if (!told.time.length) {
      show(place, h("p", { class: "empty" }, page.status && !page.status.topics.scores
        ? "The connector publishes no scores, so there are no values to draw: set output.scores."
        : "No readings of this series are kept."));
      return;
    }
    if (chart) { chart.update(told); return; }
    drawBar();
    chart = chartOf(place, told, {
      lower: lower(), from: asked("from"), to: asked("to"), height: 320, label: `values of ${id}`,
      moved: (from, to) => { page.set({ from: from === null ? null : from.toFixed(3), to: to === null ? null : to.toFixed(3) }); drawBar(); channelsMoved(); },
    });
  }

  const channelsMoved = calmly(() => channels?.moved(), 500);

  async function drawMembers() {
    const newest = told.episodes[0];
    const shares = new Map((newest?.channels || []).map((one) => [one.series_id, one.share]));
    const order = [...told.members].sort((a, b) => (shares.get(b) || 0) - (shares.get(a) || 0));
    const shown = page.params.get("channels") === "all" ? order : order.slice(0, MOST_CHANNELS);
    const found = await Promise.all(shown.map((one) => get("/readings", { series: one, most: 1500 }, signal)));
    if (!members.firstChild) members.append(h("h2", {}, "Channels"), h("p", { class: "muted" }), h("div", { class: "grid" }));
    const [, note, grid] = members.children;
    show(note, newest ? `those that drove the newest alert first` : "by name",
      order.length > shown.length ? [" · ", h("a", { href: `/series/view?id=${encodeURIComponent(id)}&channels=all` }, `all ${order.length}`)] : "");
    found.forEach((readings, i) => {
      const one = shown[i];
      if (small.has(one)) { small.get(one).update(readings); return; }
      const box = h("div", { class: "chart small" });
      grid.append(h("figure", {}, h("figcaption", {}, seriesLink(one), shares.has(one) ? ` ${Math.round(100 * shares.get(one))} % of the newest alert` : ""), box));
      small.set(one, chartOf(box, readings, { height: 170, label: `values of ${one}` }));
    });
  }

  draw();
  let trials = null;
  if (told.time.length && !told.members.length) {
    channels = madeOf(made, id, signal, () => [asked("from"), asked("to")],
      { open: page.params.get("made") !== null, begun: () => page.set({ made: "1" }) });
  }
  if (told.time.length || told.members.length) {
    if (told.group) trial.append(h("p", { class: "hint" }, "Rules of a channel are those of its group: ", seriesLink(told.group, "try others there"), "."));
    else trials = whatIf(trial, id, told, page, (lanes) => chart?.update(told, lanes));
  }

  const reload = calmly(async () => {
    try { told = await load(); draw(); } catch (error) { if (error.name !== "AbortError") page.say(error.message); }
  }, 4000);
  return {
    title: id,
    news(changed) { if (changed.alerts || changed.scores || changed.forecasts) reload(); },
    key: (event) => chart?.key(event) || trials?.key?.(event) || false,
    close() { chart?.close(); channels?.close(); small.forEach((one) => one.close()); },
  };
}
