// How the worker does, as far as it can be seen from outside.
import { get } from "./api.js";
import { h, show } from "./dom.js";
import { bytes, count, number, span, when } from "./format.js";
import { calmly } from "./parts.js";

export const name = "health";
export const title = "Health";
const LATE_SNAPSHOT = 600;

export async function open(main, page, signal) {
  const body = h("div", {});
  main.append(h("h1", {}, "Health"), body);

  async function load() {
    draw(await get("/health", {}, signal));
  }

  function draw(found) {
    const s = found.status;
    const lag = found.lag.reduce((sum, one) => sum + (one.lag || 0), 0);
    const unread = found.lag.some((one) => one.committed === null);
    const oldest = Math.max(0, ...found.snapshots.map((one) => one.age_s));
    const share = found.alerts_due ? found.alerts_opened / found.alerts_due : null;
    show(body, 
      h("div", { class: "cards" },
        card("Worker's lag", found.lag_problem && !found.lag.length ? "unknown" : unread && !lag ? "not begun" : `${count(lag)} messages`, found.lag_problem || `${several(found.lag.length)} of ${s.topics.input}`, found.lag_problem || lag > 10000 ? "bad" : "good"),
        card("Workers", workers(found), moved(found.group), found.group.members.length || !found.lag.length ? "" : "bad"),
        card("Readings", `${number(s.readings_per_second, 3)} a second`, s.topics.scores ? `from ${s.topics.scores}` : "output.scores is not set", s.topics.scores ? "" : "warn"),
        card("Newest", s.newest ? when(s.newest) : "none", s.newest ? "time of the newest reading or alert" : ""),
        card("Snapshots", found.snapshots.length ? `${span(oldest)} old` : "none", found.snapshots_problem || (found.snapshots.length === 1 ? "of one partition" : `the oldest of ${several(found.snapshots.length)}`), found.snapshots.length && oldest < LATE_SNAPSHOT ? "good" : "warn"),
        card("Alerts and budget", `${count(found.alerts_opened)} opened`, found.alerts_due === null ? "no readings to count with" : `${number(found.alerts_due, 3)} false ones are accepted for the kept ${number(found.period_days, 2)} days`, share === null ? "" : share > 3 && found.alerts_opened > 10 ? "warn" : "good"),
        card("Model", s.model ? s.model.name : "unknown", s.model ? `version ${s.model.version}` : "no scores have come yet"),
        card("Series", count(s.series), `${count(s.states.learning || 0)} learning, ${count(s.states.silent || 0)} silent`),
        card("This page", bytes(found.page_bytes), `${count(s.readings_kept)} readings kept, up to ${count(s.readings_of_series)} a series; ${count(s.unreadable)} messages unreadable`)),
      found.lag.length ? table("Partitions of the input", ["Topic", "Partition", "Read up to", "End", "Lag"], found.lag.map((one) => [one.topic, one.partition, one.committed === null ? "–" : count(one.committed), count(one.end), one.lag === null ? "–" : count(one.lag)]), 1) : "",
      found.group.members.length ? table("Workers", ["Worker", "Host", "Partitions"], found.group.members.map((one) => [one.client, one.host, shares(one.partitions)]), 3) : "",
      found.snapshots.length ? table("Snapshots", ["Topic", "Partition", "Offset", "Age", "Size", "Model"], found.snapshots.map((one) => [one.topic, one.partition, count(one.offset), span(one.age_s), bytes(one.bytes), one.model]), 1) : "",
      table("Topics", ["What", "Topic", "Not yet read"], Object.entries(s.topics).map(([what, topic]) => [what, topic || "not set", what === "input" || !topic ? "" : count(s.behind[topic] || 0)]), 2));
  }

  const reload = calmly(() => load().catch(() => {}), 3000);
  const timer = setInterval(reload, 10000);
  await load();
  return { news: reload, key: () => false, close: () => clearInterval(timer) };
}

function workers(found) {
  const { members, state } = found.group;
  if (found.lag_problem && !members.length) return "unknown";
  if (!members.length) return "none";
  return `${count(members.length)}${state && state !== "Stable" ? `, ${state}` : ""}`;
}

function moved(group) {
  if (!group.rebalances) return `no rebalance since ${when(group.watched_since)}`;
  return `${group.rebalances === 1 ? "one rebalance" : `${count(group.rebalances)} rebalances`} since ${when(group.watched_since)}, the last one at ${when(group.last_rebalance)}`;
}

/** Partitions by topic, runs of numbers as such: readings 0–3, 7. */
function shares(partitions) {
  const told = Object.entries(partitions).map(([topic, numbers]) => {
    const runs = [];
    for (const n of numbers) {
      if (runs.length && n === runs.at(-1)[1] + 1) runs.at(-1)[1] = n;
      else runs.push([n, n]);
    }
    return `${topic} ${runs.map(([a, b]) => (a === b ? a : `${a}–${b}`)).join(", ")}`;
  });
  return told.join("; ") || "none";
}

const several = (n) => (n === 1 ? "one partition" : `${count(n)} partitions`);

function card(what, figure, more, state = "") {
  return h("section", { class: `card ${state}` }, h("h2", {}, what), h("p", { class: "figure" }, figure), h("p", { class: "muted" }, more));
}

function table(caption, head, rows, text) {
  return h("section", {}, h("h2", {}, caption), h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, head.map((one, i) => h("th", { scope: "col", class: i >= text && i < head.length - (head.at(-1) === "Model" ? 1 : 0) ? "num" : null }, one)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((one, i) => h("td", { class: i >= text && typeof one !== "object" && !(head[i] === "Model") ? "num" : null }, one))))))));
}
