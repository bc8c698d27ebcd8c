// The frame around the views: addresses, live news, keys, theme.
import { follow } from "./api.js";
import { h, show } from "./dom.js";
import { count, when } from "./format.js";
import * as alert from "./alert.js";
import * as health from "./health.js";
import * as inbox from "./inbox.js";
import * as series from "./series.js";
import * as view from "./view.js";

const VIEWS = { "/": inbox, "/alert": alert, "/series": series, "/series/view": view, "/health": health };
const NAV = [["/", "Alerts", "1"], ["/series", "Series", "2"], ["/health", "Health", "3"]];
const KEYS = [
  ["1 2 3", "alerts, series, health"], ["/", "search"], ["j k", "next, previous"],
  ["Enter", "open"], ["a", "acknowledge"], ["f", "false alarm"], ["e", "expected"],
  ["← →", "move the chart"], ["+ −", "zoom the chart"], ["0", "the whole chart"],
  ["t", "dark or light"], ["?", "these keys"], ["Esc", "close, leave a field"],
];

const main = document.getElementById("main");
const top = document.getElementById("top");
const notice = document.getElementById("notice");
const keysDialog = document.getElementById("keys");

let status = null;
let lost = false;
let drawn = "";
let shown = null;
let running = new AbortController();

const page = {
  /** What the address says. */
  get params() { return new URLSearchParams(location.search); },
  get status() { return status; },
  /** Change the address in place; empty values are left out. */
  set(changes) {
    const params = this.params;
    for (const [name, value] of Object.entries(changes)) {
      params.delete(name);
      for (const one of Array.isArray(value) ? value : [value]) {
        if (one !== null && one !== undefined && one !== "") params.append(name, one);
      }
    }
    const text = params.toString();
    history.replaceState(null, "", location.pathname + (text ? `?${text}` : ""));
  },
  go(address) {
    history.pushState(null, "", address);
    open();
  },
  say(text) { notice.textContent = ""; notice.textContent = text; },
};

async function open() {
  running.abort();
  running = new AbortController();
  shown?.close?.();
  const module = VIEWS[location.pathname] || inbox;
  document.title = `${module.title}${status ? ` · ${status.connector}` : ""}`;
  main.replaceChildren();
  main.className = module.name;
  drawTop();
  window.scrollTo(0, 0);
  try {
    shown = await module.open(main, page, running.signal);
    document.title = `${shown?.title || module.title}${status ? ` · ${status.connector}` : ""}`;
  } catch (error) {
    if (error.name !== "AbortError") problem(error);
  }
}

function problem(error) {
  main.append(h("p", { class: "problem", role: "alert" }, error.message));
}

function drawTop() {
  const here = location.pathname.startsWith("/series") ? "/series" : location.pathname === "/alert" ? "/" : location.pathname;
  const open = status?.open_alerts ?? 0;
  const text = JSON.stringify([here, open, status?.connector, liveClass(), liveText()]);
  if (text === drawn) return;
  drawn = text;
  const focused = [...top.querySelectorAll("a, button")].indexOf(document.activeElement);
  show(top, 
    h("a", { class: "brand", href: "/" }, h("img", { src: "/static/icon.svg", alt: "", width: 20, height: 20 }), status?.connector || "titans-stream"),
    h("nav", { "aria-label": "Pages" }, NAV.map(([path, name, key]) => h("a", {
      href: path, "aria-current": here === path ? "page" : null, title: `${name} (${key})`,
    }, name, path === "/" && open ? h("span", { class: "count", "aria-label": `${open} open` }, count(open)) : null))),
    h("p", { class: `live ${liveClass()}` }, liveText()),
    h("button", { type: "button", class: "quiet", title: "dark or light (t)", "aria-label": "dark or light", onclick: turnTheme }, "◐"),
    h("button", { type: "button", class: "quiet", title: "keys (?)", "aria-label": "keys", onclick: showKeys }, "?"),
  );
  if (focused >= 0) top.querySelectorAll("a, button")[focused]?.focus();
}

function liveClass() {
  if (lost || status?.problem) return "bad";
  return status?.caught_up ? "good" : "waiting";
}

function liveText() {
  if (lost) return "the page's server does not answer";
  if (!status) return "connecting …";
  if (status.problem) return status.problem;
  const behind = Object.values(status.behind).reduce((a, b) => a + b, 0);
  if (!status.caught_up) return `reading: ${count(behind)} messages to go`;
  return status.newest ? `live · newest ${when(status.newest)}` : "live · nothing has come yet";
}

function hear(news) {
  const before = status;
  status = news;
  drawTop();
  const changed = before === null ? { alerts: true, scores: true, forecasts: true } : {
    alerts: before.versions.alerts !== news.versions.alerts,
    scores: before.versions.scores !== news.versions.scores,
    forecasts: before.versions.forecasts !== news.versions.forecasts,
  };
  shown?.news?.(changed, news);
}

function turnTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
  document.dispatchEvent(new Event("theme"));
}

function showKeys() {
  show(keysDialog, 
    h("h2", { id: "keys-title" }, "Keys"),
    h("dl", {}, KEYS.map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])),
    h("form", { method: "dialog" }, h("button", {}, "Close")),
  );
  keysDialog.showModal();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='/']");
  const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
  if (!link || !plain || link.target || !(link.pathname in VIEWS)) return;
  event.preventDefault();
  page.go(link.getAttribute("href"));
  main.focus({ preventScroll: true });
});

document.addEventListener("keydown", (event) => {
  const field = event.target.closest("input, select, textarea");
  if (field && event.key === "Escape") field.blur();
  if (field || event.metaKey || event.ctrlKey || event.altKey || keysDialog.open) return;
  const number = NAV.find(([, , key]) => key === event.key);
  if (number) page.go(number[0]);
  else if (event.key === "?") showKeys();
  else if (event.key === "t") turnTheme();
  else if (event.key === "/") main.querySelector("input[type=search]")?.focus();
  else if (!shown?.key?.(event)) return;
  event.preventDefault();
});

window.addEventListener("popstate", open);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("theme")));
setInterval(() => shown?.tick?.(), 10000);
follow(hear, (is) => { if (is !== lost) { lost = is; drawTop(); } });
open();
