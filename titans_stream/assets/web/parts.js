// Small things that several views show.
import { post } from "./api.js";
import { h } from "./dom.js";
import { ago, span, times } from "./format.js";

export const seriesLink = (id, text = id, props = {}) => h("a", { href: `/series/view?id=${encodeURIComponent(id)}`, ...props }, text);
export const alertLink = (id, ...children) => h("a", { href: `/alert?id=${encodeURIComponent(id)}` }, ...children);

const MARKS = { critical: "▲", warning: "△", silent: "○", learning: "…", normal: "·" };

/** A word and a mark: colour alone says nothing to some. */
export function chip(state, text = state) {
  return h("span", { class: `chip ${state}` }, h("span", { "aria-hidden": "true" }, MARKS[state] || "·"), ` ${text}`);
}

export function severityChip(episode) {
  const state = episode.reason === "no_data" ? "silent" : episode.severity;
  return chip(episode.open ? state : "over", episode.open ? (state === "silent" ? "silent" : episode.severity) : "ended");
}

export function overText(episode) {
  if (episode.reason === "valid_range") return "limit left";
  if (episode.reason === "no_data") return "no data";
  return episode.over === null ? "" : `${times(episode.over)} budget`;
}

export function lasting(episode, now = Date.now()) {
  return episode.open ? `since ${ago(episode.onset, now).replace(" ago", "")}` : `${span(episode.duration_s)}, ${ago(episode.timestamp, now)}`;
}

/** The id without the asset before it. */
export function within(asset, id) {
  return id !== asset && id.startsWith(asset) ? id.slice(asset.length).replace(/^[/.:_\- ]+/, "") || id : id;
}

const VERDICTS = [
  ["true_alarm", "Acknowledge", "a", "it is real, and somebody looks after it"],
  ["false_alarm", "False alarm", "f", "it was nothing: the worker is told"],
  ["expected", "Expected", "e", "it was planned: the same is expected for the next 24 h"],
];
export const VERDICT_NAMES = { true_alarm: "acknowledged", false_alarm: "false alarm", expected: "expected" };

/** Buttons that say what an alert was; without a control topic they say why they cannot. */
export function verdictButtons(episode, page, done) {
  const topic = page.status?.control_topic && !unsayable(episode);
  const none = page.status?.control_topic ? unsayable(episode) : "the connector has no control topic, so nothing can be said of alerts here";
  return h("div", { class: "verdicts", role: "group", "aria-label": "what it was" },
    episode.verdict ? h("span", { class: "said" }, VERDICT_NAMES[episode.verdict] || episode.verdict) : null,
    VERDICTS.map(([verdict, name, key, why]) => h("button", {
      type: "button", disabled: !topic, title: topic ? `${why} (${key})` : none,
      "aria-pressed": String(episode.verdict === verdict),
      onclick: () => judge(episode, verdict, page).then(done),
    }, name)),
    topic ? null : h("span", { class: "hint" }, none));
}

/** Why nothing can be said of an alert; empty: it can. */
function unsayable(episode) {
  if (episode.channels.length) return "only single series have patterns: silence the group, or set a rule for it";
  return episode.reason === "surprise" ? "" : "it was told for a rule's sake: change the rule instead";
}

export async function judge(episode, verdict, page) {
  if (page.status?.control_topic && unsayable(episode)) { page.say(unsayable(episode)); return; }
  const body = { verdict };
  if (verdict === "expected") body.until = new Date(Date.now() + 86400e3).toISOString();
  try {
    await post(`/alerts/${encodeURIComponent(episode.alert_id)}/verdict`, body);
    page.say(`${episode.series_id}: ${VERDICT_NAMES[verdict]}, sent`);
  } catch (error) {
    page.say(error.message);
  }
}

export function verdictOfKey(key) {
  return VERDICTS.find(([, , one]) => one === key)?.[0];
}

/** Runs `work` at most every `pause` ms, and once more when it was asked for meanwhile. */
export function calmly(work, pause) {
  let last = 0;
  let timer = null;
  return () => {
    if (timer !== null) return;
    timer = setTimeout(() => { timer = null; last = Date.now(); work(); }, Math.max(0, last + pause - Date.now()));
  };
}
