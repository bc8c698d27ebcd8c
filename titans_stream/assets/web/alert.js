// One alert: what happened, what was normal, how rare it is, and what to do.
import { get } from "./api.js";
import { chartOf } from "./chart.js";
import { h, show } from "./dom.js";
import { band, number, often, span, when } from "./format.js";
import { madeOf } from "./madeof.js";
import { alertLink, calmly, judge, lasting, overText, seriesLink, severityChip, verdictButtons, verdictOfKey } from "./parts.js";

export const name = "alert";
export const title = "Alert";

export async function open(main, page, signal) {
  const id = page.params.get("id") || "";
  const one = detail(main, id, page, signal, "h1");
  await one.loaded;
  return { ...one, title: one.name() };
}

/** Fills `root` with an alert, and keeps it as it is known. */
export function detail(root, id, page, signal, heading) {
  let told = null;
  let chart = null;
  let made = null;
  let closed = false;
  const body = h("div", { class: "alert-detail" });
  root.append(body);

  async function load() {
    const next = await get(`/alerts/${encodeURIComponent(id)}`, {}, signal);
    if (closed) return;
    if (told && JSON.stringify(told) === JSON.stringify(next)) return;
    told = next;
    draw();
  }

  function draw() {
    const a = told.alert;
    const driving = a.channels.length ? a.channels[0].series_id : a.series_id;
    const place = h("div", { class: "chart small" });
    const reasons = h("section", { class: "made" });
    chart?.close();
    made?.close();
    made = null;
    show(body, 
      h("header", {},
        h(heading, {}, severityChip(a), " ", a.series_id === "*" ? "all series of a partition" : seriesLink(a.series_id)),
        h("p", { class: "muted" }, `${when(a.onset, true)} · ${lasting(a)}`)),
      h("p", { class: "sentence" }, a.explanation),
      verdictButtons(a, page, load),
      facts(a),
      place,
      a.series_id === "*" ? null : h("p", {}, seriesLink(a.series_id, `The ${a.channels.length ? "group, with all its channels" : "series, with more history"} and what other rules would have alerted →`)),
      reasons, channels(a), messages(), others("In the same incident", told.together), others("Earlier on this series", told.earlier),
      h("p", { class: "muted small" }, `model ${told.model.name} ${told.model.version} · ${told.source.topic}, partition ${told.source.partition}, offset ${told.source.offset} · ${a.alert_id}`));
    if (a.series_id === "*") return;
    picture(place, driving, a);
    if (a.reason === "no_data") return;
    made = madeOf(reasons, driving, signal, () => [Date.parse(a.onset) / 1000, a.open ? null : Date.parse(a.timestamp) / 1000], { heading: "h3" });
  }

  async function picture(place, series, a) {
    try {
      const readings = await get("/readings", { series }, signal);
      if (closed || told.alert !== a) return;
      const onset = Date.parse(a.onset) / 1000;
      const end = a.open ? Math.max(readings.time.at(-1) ?? onset, onset) : Date.parse(a.timestamp) / 1000;
      const step = readings.readings_per_day ? 86400 / readings.readings_per_day : 60;
      const margin = Math.max(2 * (end - onset), 80 * step);
      chart = chartOf(place, readings, { from: onset - margin, to: end + margin / 4, height: 220, marked: a.alert_id, label: `values of ${series} around the alert` });
    } catch (error) {
      if (error.name !== "AbortError" && !closed) show(place, h("p", { class: "hint" }, `No values to draw: ${error.message}.`));
    }
  }

  function facts(a) {
    const rows = [
      ["At the peak", a.value === null ? null : number(a.value)],
      ["Normal then", a.lower === null ? (a.reason === "no_data" ? null : "inside its band: see the sentence") : `${number(a.expected)}, ${band(a.lower, a.upper)}`],
      ["Now", a.latest_value === null || !a.open ? null : number(a.latest_value)],
      ["Over the budget", overText(a)],
      ["Due", a.rate_per_day === null ? null : `${often(a.rate_per_day)}${a.extrapolated ? ", from a short history" : ""}`],
      ["Accepted", often(a.budget_per_day)],
      ["Lasted", a.open ? `${span(Math.max(a.duration_s, newest(a)))} so far` : span(a.duration_s)],
      ["Stands out", a.what ? `${a.what}${a.direction === "pattern" ? "" : `, ${a.direction}`}` : null],
    ];
    return h("dl", { class: "facts" }, rows.filter(([, text]) => text).map(([key, text]) => h("div", {}, h("dt", {}, key), h("dd", {}, text))));
  }

  /** Seconds from the onset to the newest reading of the connector. */
  const newest = (a) => (page.status?.newest ? (Date.parse(page.status.newest) - Date.parse(a.onset)) / 1000 : 0);

  function channels(a) {
    if (!a.channels.length) return null;
    return h("section", {}, h("h3", {}, "Channels that drove it"), h("div", { class: "scroll" }, h("table", { class: "channels" },
      h("thead", {}, h("tr", {}, ["Channel", "Share", "Value", "Normal"].map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, a.channels.map((one) => h("tr", {},
        h("td", {}, seriesLink(one.series_id)),
        h("td", { class: "share" }, h("meter", { min: 0, max: 1, value: one.share, "aria-label": `share of ${one.series_id}` }), ` ${Math.round(100 * one.share)} %`),
        h("td", { class: "num" }, number(one.value)), h("td", { class: "num" }, band(one.lower, one.upper))))))));
  }

  function messages() {
    if (told.messages.length < 2) return null;
    return h("section", {}, h("h3", {}, "How it went"), h("ol", { class: "course" }, told.messages.map((one) => h("li", {},
      h("time", { datetime: one.timestamp }, when(one.timestamp)), ` ${one.status}, ${one.severity}${one.value === null ? "" : `, ${number(one.value)}`}`))));
  }

  function others(heading, episodes) {
    if (!episodes.length) return null;
    return h("section", {}, h("h3", {}, heading), h("ul", { class: "plain" }, episodes.slice(0, 8).map((one) => h("li", {},
      severityChip(one), " ", alertLink(one.alert_id, when(one.onset, true)), ` ${one.series_id} · ${overText(one)}`))));
  }

  const loaded = load();
  loaded.catch((error) => { if (error.name !== "AbortError" && !closed) show(body, h("p", { class: "problem", role: "alert" }, error.message)); });
  const repaint = calmly(async () => {
    if (!told || closed) return;
    if (!chart) { draw(); return; }
    const driving = (told.alert.channels[0] || told.alert).series_id;
    const readings = await get("/readings", { series: driving }, signal).catch(() => null);
    if (readings && !closed) chart.update(readings);
  }, 5000);
  const reload = calmly(() => load().catch(() => {}), 2000);
  return {
    id, loaded: loaded.catch(() => {}),
    name: () => told?.alert.series_id || "Alert",
    news(changed) { if (changed.alerts) reload(); else if (changed.scores) repaint(); },
    key(event) {
      if (chart?.key(event)) return true;
      const verdict = verdictOfKey(event.key);
      if (!verdict || !told) return false;
      judge(told.alert, verdict, page).then(reload);
      return true;
    },
    close() { closed = true; chart?.close(); made?.close(); },
  };
}
