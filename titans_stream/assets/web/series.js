// The table of series: searched, sorted, paged on the server.
import { get } from "./api.js";
import { h, keyed, show, sparkline } from "./dom.js";
import { ago, band, count, number, times } from "./format.js";
import { calmly, chip, seriesLink } from "./parts.js";

export const name = "series";
export const title = "Series";
const PAGE = 50;
const COLUMNS = [
  ["state", "State", "desc"], ["name", "Series", "asc"], [null, "Newest", null], ["value", "Value", "desc"],
  [null, "Normal", null], ["rarity", "Over budget", "desc"], ["time", "Last reading", "desc"], ["readings", "Readings", "desc"],
];
const STATES = ["critical", "warning", "silent", "learning", "normal"];

export async function open(main, page, signal) {
  const heading = h("h1", {}, "Series");
  const states = h("div", { class: "filters", role: "group", "aria-label": "states" });
  const search = h("input", { type: "search", placeholder: "part of the name …", "aria-label": "search series", value: page.params.get("q") || "" });
  const head = h("tr");
  const body = h("tbody");
  const pager = h("nav", { class: "pager", "aria-label": "Pages of series" });
  main.append(heading, h("div", { class: "bar" }, search, states), h("div", { class: "scroll" },
    h("table", { class: "series" }, h("thead", {}, head), body)), pager);
  let found = null;
  let asking = null;
  signal.addEventListener("abort", () => asking?.abort());

  const sort = () => page.params.get("sort") || "state";
  const order = () => page.params.get("order") || COLUMNS.find(([key]) => key === sort())?.[2] || "desc";
  const chosen = () => page.params.getAll("state");
  const from = () => Number(page.params.get("from") || 0);

  async function load() {
    asking?.abort();
    asking = new AbortController();
    found = await get("/series", { q: page.params.get("q"), state: chosen(), sort: sort(), order: order(), offset: from(), limit: PAGE }, asking.signal);
    draw();
  }

  function draw() {
    show(heading, `${count(found.total)} series`);
    show(states, ...STATES.map((state) => h("button", {
      type: "button", "aria-pressed": String(chosen().includes(state)),
      onclick: () => change({ state: chosen().includes(state) ? chosen().filter((one) => one !== state) : [...chosen(), state], from: null }),
    }, chip(state), ` ${count(found.states[state] || 0)}`)));
    show(head, ...COLUMNS.map(([key, text, first]) => h("th", {
      scope: "col", class: ["value", "rarity", "readings"].includes(key) || text === "Normal" ? "num" : null,
      "aria-sort": key === sort() ? (order() === "asc" ? "ascending" : "descending") : null,
    }, key ? h("button", { type: "button", onclick: () => change({ sort: key, order: key === sort() ? (order() === "asc" ? "desc" : "asc") : first, from: null }) },
      text, key === sort() ? (order() === "asc" ? " ↑" : " ↓") : "") : text)));
    keyed(body, found.series, (one) => one.series_id, row);
    if (!found.series.length) show(body, h("tr", {}, h("td", { colspan: COLUMNS.length, class: "empty" },
      page.params.get("q") || chosen().length ? "No series is like that." : "No series is known yet.")));
    const step = (to, text, rel) => h("button", { type: "button", rel, onclick: () => change({ from: to || null }) }, text);
    show(pager, 
      from() > 0 ? step(Math.max(0, from() - PAGE), "← before (p)", "prev") : "",
      found.total ? h("span", {}, `${count(from() + 1)}–${count(Math.min(from() + PAGE, found.total))} of ${count(found.total)}`) : "",
      from() + PAGE < found.total ? step(from() + PAGE, "further (n) →", "next") : "");
  }

  function row(one) {
    return h("tr", { class: one.state },
      h("td", { class: "nowrap" }, chip(one.state)),
      h("td", { class: "name" }, seriesLink(one.series_id)),
      h("td", {}, sparkline(one.spark, 96, 22, `newest values of ${one.series_id}`)),
      h("td", { class: "num value" }, number(one.value, 6)),
      h("td", { class: "num muted" }, band(one.lower, one.upper)),
      h("td", { class: "num" }, one.over !== null && one.over >= 0.1 ? times(one.over) : ""),
      h("td", { class: "nowrap muted", title: one.time || "" }, ago(one.time)),
      h("td", { class: "num muted" }, count(one.readings)));
  }

  function change(changes) {
    page.set(changes);
    load().catch(told);
  }

  const told = (error) => { if (error.name !== "AbortError") page.say(error.message); };
  let typing = null;
  search.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => change({ q: search.value, from: null }), 150); });
  const reload = calmly(() => load().catch(told), 3000);
  await load();

  function step(by) {
    const links = [...body.querySelectorAll("td.name a")];
    const at = links.indexOf(document.activeElement);
    links[Math.min(links.length - 1, Math.max(0, at + by))]?.focus();
  }

  return {
    news(changed) { if (changed.scores || changed.alerts) reload(); },
    key(event) {
      if (event.key === "j" || event.key === "ArrowDown") step(1);
      else if (event.key === "k" || event.key === "ArrowUp") step(-1);
      else if (event.key === "n" && found && from() + PAGE < found.total) change({ from: from() + PAGE });
      else if (event.key === "p" && from() > 0) change({ from: Math.max(0, from() - PAGE) || null });
      else return false;
      return true;
    },
    close() { asking?.abort(); clearTimeout(typing); },
  };
}
