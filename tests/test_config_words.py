"""What is said of a setting that is not right: its line, its name, and no words of a library."""

from __future__ import annotations

from pathlib import Path

import pytest

from titans_stream.config import ConfigError, load_connector

LINES = ["name: x", "kafka: {bootstrap_servers: 'a:1'}",
         "input: {topic: t, series: '{s}', value: v}", "output: {alerts: o}"]  # fmt: skip
NO_LIST = "a list is needed, such as [first, second]"
NO_KEYS = "settings are needed, `key: value` each"


@pytest.mark.parametrize(
    ("place", "line", "told"),
    [
        (2, "input:", ["3: input: is needed"]),
        (2, "input: {topic: t, series: '{s}', values: v}", [f"3: input.values: {NO_LIST}"]),
        (
            2,
            "input: {topic: t, series: '{s}', value: v, missing_values: -999}",
            [f"3: input.missing_values: {NO_LIST}"],
        ),
        (
            2,
            "input: {topic: a b, series: '{s}', value: v}",
            ["3: input.topic: 'a b': letters, digits, '.', '_' and '-' are allowed"],
        ),
        (3, "output: {alerts: t}", ["4: output.alerts: 't' is input.topic already"]),
        (4, "control: 5", [f"5: control: {NO_KEYS}"]),
        (4, "engine: 5", [f"5: engine: {NO_KEYS}"]),
        (4, "jobs: [1]", [f"5: jobs: {NO_KEYS}"]),
        (4, "alerts: {rules: {series: a}}", [f"5: alerts.rules: {NO_LIST}"]),
        (4, "alerts: {rules: [5]}", [f"5: alerts.rules[0]: {NO_KEYS}"]),
        (4, "swap: {poll: 5m}", ["5: swap.poll: should be less than or equal to 1m"]),
        (4, "notify: {alertmanager: {urls: ['http://x'], lasts: 500ms}}",
         ["5: notify.alertmanager.lasts: should be greater than or equal to 1s"]),
        (4, "notify: {webhooks: {a: {url: 'http://x:70000/'}}}",
         ["5: notify.webhooks.a.url: a URL's port is a number up to 65535 (Port out of range "
          "0-65535)"]),
        (4, "notify: {alertmanager: {urls: []}}",
         ["5: notify.alertmanager.urls: should have at least 1 item"]),
        (4, "engine: {timezone: Wien}",
         ["5: engine.timezone: no such time zone: 'Wien' (an IANA name is needed)"]),
        (4, "forecast: {horizon: 1d}", ["4: output.forecasts: forecast needs a topic here"]),
    ],
)  # fmt: skip
def test_each_problem_has_its_line_and_its_name(
    place: int, line: str, told: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("\n".join([*LINES[:place], line, *LINES[place + 1 :]]) + "\n")
    with pytest.raises(ConfigError) as refused:
        load_connector(path)
    assert [one.removeprefix(f"{path}:") for one in refused.value.problems] == told
