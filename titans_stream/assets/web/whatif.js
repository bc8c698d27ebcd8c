// What other rules would have alerted over the kept history, beside the present ones.
import { post } from "./api.js";
import { h, show } from "./dom.js";
import { count, span, when } from "./format.js";
import { chip } from "./parts.js";
import { times } from "./format.js";

const FIELDS = { budget: "false_alarms_per_series_per_day", direction: "direction", deviation: "min_deviation", ratio: "min_deviation_ratio" };

export function whatIf(root, id, readings, page, mark) {
  const params = page.params;
  const input = (name, text, hint) => h("label", {}, text, h("input", {
    name, type: "number", min: "0", step: "any", inputmode: "decimal", placeholder: hint, value: params.get(name) || "",
  }));
  const direction = h("select", { name: "direction" }, [["", "as now"], ["both", "both"], ["above", "above only"], ["below", "below only"]].map(([value, text]) => h("option", { value, ...(params.get("direction") === value ? { selected: true } : {}) }, text)));
  const button = h("button", { type: "submit" }, "Try");
  const answer = h("div", { class: "answer", "aria-live": "polite" });
  const form = h("form", { onsubmit: (event) => { event.preventDefault(); run(); } },
    input("budget", "Budget, false alarms a day", String(readings.budget_per_day)),
    h("label", {}, "Direction", direction),
    input("deviation", "Least deviation", "in the value's units"),
    input("ratio", "Least deviation, as a share", "0.05 is 5 %"), button);
  root.append(h("h2", {}, "What if"), h("p", { class: "muted" },
    "Other rules over the kept history, by the service's own engine; both runs begin with an empty memory, so early alerts can differ from those that were sent."), form, answer);

  async function run() {
    const given = Object.fromEntries(new FormData(form));
    page.set(given);
    const rule = {};
    for (const [name, field] of Object.entries(FIELDS)) {
      if (given[name]) rule[field] = name === "direction" ? given[name] : Number(given[name]);
    }
    if (!Object.keys(rule).length) { show(answer, h("p", { class: "hint" }, "Change at least one of them.")); return; }
    button.disabled = true;
    show(answer, h("p", { class: "hint" }, "running … the first time, kernels are loaded or compiled, which can take a minute"));
    try {
      draw(await post("/what-if", { series_id: id, rule }));
    } catch (error) {
      show(answer, h("p", { class: "problem", role: "alert" }, error.message));
      mark([]);
    } finally {
      button.disabled = false;
    }
  }

  function draw(found) {
    const { before, after } = found;
    const of = (change, episodes) => episodes.filter((one) => one.change === change);
    const [stay, gone, fresh] = [of("stays", after.episodes), of("gone", before.episodes), of("new", after.episodes)];
    const rows = [...stay, ...gone, ...fresh].sort((a, b) => Date.parse(b.onset) - Date.parse(a.onset));
    mark([{ colour: "--muted", episodes: before.episodes }, { colour: "--accent", episodes: after.episodes }]);
    show(answer, 
      h("p", { class: "result" }, h("strong", {}, count(before.episodes.length)), before.episodes.length === 1 ? " alert" : " alerts", " with the present rules, ", h("strong", {}, count(after.episodes.length)),
        ` with these: ${count(stay.length)} stay, ${count(gone.length)} gone, ${count(fresh.length)} new · ${count(found.readings)} readings, ${when(found.begin, true)} to ${when(found.end, true)}`),
      h("p", { class: "legend" }, h("span", { class: "lane now" }), " present rules ", h("span", { class: "lane then" }), " these rules, at the lower edge of the chart"),
      rows.length ? h("div", { class: "scroll" }, h("table", {},
        h("thead", {}, h("tr", {}, ["", "Onset", "Lasted", "Over", "What happened"].map((text) => h("th", { scope: "col" }, text || h("span", { class: "hidden" }, "Change"))))),
        h("tbody", {}, rows.map((e) => h("tr", { class: e.change }, h("td", { class: "nowrap" }, chip(e.severity, e.change)), h("td", { class: "nowrap" }, when(e.onset, true)),
          h("td", { class: "nowrap" }, span((Date.parse(e.end) - Date.parse(e.onset)) / 1000)), h("td", {}, times(e.over)), h("td", {}, e.explanation)))))) : "",
      h("h3", {}, "In the connector"), h("pre", { tabindex: 0 }, found.yaml),
      h("button", { type: "button", onclick: () => save(found.yaml) }, "Download the YAML"));
  }

  function save(text) {
    const address = URL.createObjectURL(new Blob([text], { type: "application/yaml" }));
    const link = h("a", { href: address, download: "rule.yaml" });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }

  if (Object.keys(FIELDS).some((name) => params.get(name))) run();
  return { run };
}
