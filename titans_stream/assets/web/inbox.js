// Alerts: what is open, the gravest first, and beside it the one that is looked at.
import { get } from "./api.js";
import { detail } from "./alert.js";
import { h, keyed, show, sparkline } from "./dom.js";
import { count, when } from "./format.js";
import { alertLink, calmly, judge, lasting, overText, severityChip, VERDICT_NAMES, verdictOfKey, within } from "./parts.js";

export const name = "inbox";
export const title = "Alerts";
const WIDE = matchMedia("(min-width: 1100px)");
const PAGE = 30;

export async function open(main, page, signal) {
  const summary = h("h1", { class: "summary" }, "Alerts");
  const list = h("div", { class: "incidents" });
  const more = h("nav", { class: "pager", "aria-label": "Pages of alerts" });
  const aside = h("aside", { class: "detail", "aria-label": "The alert that is looked at" });
  const search = h("input", { type: "search", placeholder: "series …", "aria-label": "search in series", value: page.params.get("q") || "" });
  const filters = h("div", { class: "filters" });
  main.append(h("div", { class: "list" }, summary, h("div", { class: "bar" }, filters, search), list, more), aside);

  let found = null;
  let looked = null;

  const shows = () => page.params.get("show") || "all";

  function drawFilters() {
    show(filters, ...[["all", "All"], ["open", "Open"], ["resolved", "Ended"]].map(([value, text]) =>
      h("a", { href: address({ show: value === "all" ? null : value, from: null }), "aria-current": shows() === value ? "true" : null }, text)),
    h("label", {}, h("input", { type: "checkbox", onchange: (event) => { page.set({ severity: event.target.checked ? "critical" : null, from: null }); load(); },
      ...(page.params.get("severity") === "critical" ? { checked: true } : {}) }), "critical only"));
  }

  function address(changes) {
    const params = page.params;
    for (const [key, value] of Object.entries(changes)) {
      if (value === null) params.delete(key); else params.set(key, value);
    }
    const text = params.toString();
    return text ? `/?${text}` : "/";
  }

  async function load() {
    const params = page.params;
    found = await get("/incidents", {
      show: shows(), q: params.get("q"), severity: params.get("severity"), offset: params.get("from") || 0, limit: PAGE,
    }, signal);
    draw();
  }

  function draw() {
    drawFilters();
    const episodes = found.incidents.flatMap((one) => one.episodes);
    const open = found.open;
    show(summary, open ? `${count(open)} open` : "Nothing is open", h("span", { class: "muted" },
      open ? ` ${open === 1 ? "incident" : "incidents"}, the gravest first` : found.total ? ` · ${count(found.total)} ended` : ""));
    summary.className = `summary ${open ? "some" : "none"}`;
    keyed(list, found.incidents.map((one) => ({ ...one, chosen: one.episodes.find((e) => e.alert_id === chosen()) ? chosen() : null })),
      (one) => `${one.asset} ${one.onset}`, incident);
    if (!found.incidents.length) show(list, h("p", { class: "empty" }, emptyText()));
    const from = found.offset;
    show(more, 
      from > 0 ? h("a", { href: address({ from: Math.max(0, from - PAGE) || null }), rel: "prev" }, "← before") : "",
      found.total > PAGE ? h("span", {}, `${from + 1}–${Math.min(from + PAGE, found.total)} of ${count(found.total)}`) : "",
      from + PAGE < found.total ? h("a", { href: address({ from: from + PAGE }), rel: "next" }, "further →") : "");
    const id = chosen() || episodes[0]?.alert_id || null;
    look(id);
  }

  function emptyText() {
    if (page.params.get("q") || page.params.get("severity") || shows() !== "all") return "No alert is like that.";
    return page.status && !page.status.caught_up ? "The alerts are being read …" : "No alert has come yet. This page shows it as soon as one does.";
  }

  function incident(one) {
    const [first] = one.episodes;
    const state = !one.open ? "over" : first.reason === "no_data" ? "silent" : one.severity;
    const several = one.episodes.length + one.more > 1;
    return h("article", { class: `incident ${state}` },
      several || first.series_id !== one.asset ? h("h2", {}, one.asset,
        several ? h("span", { class: "muted" }, ` · ${one.episodes.length + one.more} alerts from ${when(one.onset)}`) : null) : null,
      one.episodes.map((episode) => row(episode, one)),
      one.more ? h("p", { class: "muted" }, `and ${one.more} more`) : null);
  }

  function row(episode, one) {
    return h("div", { class: `row ${episode.alert_id === one.chosen ? "chosen" : ""}`, "data-alert": episode.alert_id,
      onclick: (event) => { if (WIDE.matches && !event.target.closest("button")) { event.preventDefault(); event.stopPropagation(); choose(episode.alert_id); } } },
    h("div", { class: "what" },
      h("p", { class: "line" }, severityChip(episode),
        alertLink(episode.alert_id, h("strong", {}, episode.series_id === "*" ? "all series of a partition" : within(one.asset, episode.series_id))),
        episode.verdict ? h("span", { class: "said" }, VERDICT_NAMES[episode.verdict]) : null),
      h("p", { class: "explanation" }, episode.explanation)),
    h("div", { class: "figures" }, h("span", { class: "over-budget" }, overText(episode)), h("span", { class: "muted", "data-lasting": "" }, lasting(episode))),
    sparkline(episode.spark, 110, 30, `newest values of ${episode.series_id}`));
  }

  const chosen = () => page.params.get("alert");

  function choose(id) {
    page.set({ alert: id });
    for (const node of list.querySelectorAll(".row")) node.classList.toggle("chosen", node.dataset.alert === id);
    list.querySelector(".row.chosen")?.scrollIntoView({ block: "nearest" });
    look(id);
  }

  function look(id) {
    if (!WIDE.matches) { looked?.close(); looked = null; aside.replaceChildren(); return; }
    if (looked && looked.id === id) return;
    looked?.close();
    aside.replaceChildren();
    looked = id ? detail(aside, id, page, signal, "h2") : null;
  }

  function step(by) {
    const rows = [...list.querySelectorAll(".row")];
    if (!rows.length) return;
    const at = rows.findIndex((node) => node.dataset.alert === (chosen() || looked?.id));
    const next = rows[Math.min(rows.length - 1, Math.max(0, at + by))];
    choose(next.dataset.alert);
    next.querySelector("a").focus({ preventScroll: true });
  }

  let typing = null;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => { page.set({ q: search.value, from: null }); load().catch(ignore); }, 200);
  });
  const reload = calmly(() => load().catch(ignore), 2000);
  const wide = () => look(chosen() || found?.incidents[0]?.episodes[0]?.alert_id || null);
  WIDE.addEventListener("change", wide);
  await load();

  return {
    news(changed, status) {
      if (changed.alerts || (found && !found.total)) reload();
      looked?.news(changed, status);
    },
    tick() {
      for (const node of list.querySelectorAll(".row")) {
        const episode = found.incidents.flatMap((one) => one.episodes).find((one) => one.alert_id === node.dataset.alert);
        if (episode) node.querySelector("[data-lasting]").textContent = lasting(episode);
      }
    },
    key(event) {
      if (event.key === "j" || event.key === "ArrowDown") step(1);
      else if (event.key === "k" || event.key === "ArrowUp") step(-1);
      else if (event.key === "Enter" && !event.target.closest("a, button")) { const id = chosen() || looked?.id; if (id) page.go(`/alert?id=${encodeURIComponent(id)}`); }
      else if (verdictOfKey(event.key)) {
        const id = chosen() || looked?.id;
        const episode = found.incidents.flatMap((one) => one.episodes).find((one) => one.alert_id === id);
        if (episode) judge(episode, verdictOfKey(event.key), page).then(reload);
      } else return false;
      return true;
    },
    close() { looked?.close(); clearTimeout(typing); WIDE.removeEventListener("change", wide); },
  };
}

function ignore(error) {
  if (error.name !== "AbortError") console.warn(error.message);
}
