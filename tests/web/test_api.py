"""The API as a client sees it: what it gives is what its document says, and nothing is lost."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import pytest

from tests.engine.streams import MODEL as ENGINE_MODEL
from tests.web.samples import MODEL, START, alert, connector, later, scores, service
from tests.web.served import Site, served
from titans_stream.engine.build import EngineSetup, build_engine
from titans_stream.engine.model import Model
from titans_stream.records import Alert, ModelRef, Readings
from titans_stream.stream.kafka.errors import FatalError, UnreachableError
from titans_stream.times import format_timestamp
from titans_stream.web import models
from titans_stream.web.control import NoControl
from titans_stream.web.models import ScoreRequest, VerdictRequest
from titans_stream.yaml_loading import load_yaml

N = 400
ODD = 'site/<b>m</b> & "x"/°C'
"""An id with all that may not become HTML, and that an address has to carry."""


def course() -> np.ndarray:
    """Values with one thing that stands out."""
    values = 20 + np.random.default_rng(3).normal(0, 1, N)
    values[350:353] += 15
    return values


class Told:
    """A control topic that remembers what it was told."""

    topic = "control"

    def __init__(self) -> None:
        self.sent: list[tuple[str, VerdictRequest, str]] = []

    def send(self, alert: Alert, verdict: VerdictRequest, author: str) -> None:
        self.sent.append((alert.alert_id, verdict, author))

    def said(self) -> dict[str, Any]:
        return {}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    one = service(
        connector(tmp_path_factory.mktemp("page"), alerts={"false_alarms_per_series_per_day": 5.0}),
        ENGINE_MODEL,
        control=Told(),
    )
    one.store.take_scores(scores([ODD] * N, range(N), course()), MODEL)
    one.store.take_scores(scores(["a", "b"], [0, 0], [1.0, np.nan]), MODEL)
    first = alert("one", ODD, 350, severity="critical")
    one.store.take_alert(first)
    one.store.take_alert(later(first, 3, status="resolved"))
    one.store.take_alert(alert("two", "a", 390))
    with served(one) as running:
        yield running


def test_what_is_given_is_as_described(site: Site) -> None:
    for path, model, query in (
        ("/v1/status", models.Status, {}),
        ("/v1/health", models.Health, {}),
        ("/v1/incidents", models.Inbox, {}),
        ("/v1/alerts/one", models.Explanation, {}),
        ("/v1/series", models.SeriesPage, {"state": ["warning", "normal"], "sort": "value"}),
        ("/v1/readings", models.Readings, {"series": ODD}),
    ):
        answer = site.get(path, **query)
        assert answer.code == 200, (path, answer.body)
        assert answer.headers["content-type"] == "application/json"
        checked = model.model_validate_json(answer.body, strict=True)
        assert set(answer.json) == set(model.model_fields), path
        assert json.loads(checked.model_dump_json()) == answer.json, path


def test_ids_come_back_as_they_are(site: Site) -> None:
    assert site.get("/v1/readings", series=ODD).json["series_id"] == ODD
    assert site.get("/v1/alerts/one").json["alert"]["series_id"] == ODD
    assert ODD in [row["series_id"] for row in site.get("/v1/series", q="°c").json["series"]]


def test_missing_values_are_null(site: Site) -> None:
    page = site.get("/v1/readings", series="b").json
    assert page["value"] == [None] and page["over"] == [None]


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("/v1/alerts/none", 404, "no alert 'none'"),
        ("/v1/readings?series=none", 404, "'none'"),
        ("/v1/readings", 422, "series: Field required"),
        ("/v1/series?sort=colour", 422, "sort: "),
        ("/v1/series?state=odd", 422, "state.0: "),
        ("/v1/series?limit=501", 422, "limit: "),
        ("/v1/incidents?offset=-1", 422, "offset: "),
        ("/v1/incidents?q=" + "x" * 600, 422, "q: "),
    ],
)
def test_what_cannot_be_answered_is_said_in_a_line(
    site: Site, path: str, code: int, words: str
) -> None:
    answer = site.get(path)
    assert answer.code == code
    assert words in answer.json["error"] and "\n" not in answer.json["error"]


def test_the_document_describes_every_route(site: Site) -> None:
    document = site.get("/openapi.json").json
    assert document["openapi"].startswith("3.")
    assert set(document["paths"]) == {
        "/v1/status", "/v1/health", "/v1/incidents", "/v1/alerts/{alert_id}", "/v1/series",
        "/v1/readings", "/v1/what-if", "/v1/score", "/v1/alerts/{alert_id}/verdict", "/v1/events",
        "/v1/channels",
    }  # fmt: skip
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            assert method == "get" or path.endswith(("what-if", "score", "verdict"))
            schema = next(iter(told["responses"]["200"]["content"].values()))
            assert path == "/v1/events" or schema["schema"]["$ref"].startswith("#/components/")
            assert told["summary"] and told["description"]


def expected_episodes(alerts: Any, values: np.ndarray) -> list[tuple[str, str]]:
    """What the engine itself makes of the kept readings."""
    engine = build_engine(ENGINE_MODEL, EngineSetup(alerts=alerts, topic="in"))
    n = len(values)
    found = engine.process(
        Readings(
            [ODD] * n, START + np.arange(n) * 60_000_000_000, values,
            np.zeros(n, np.int32), np.arange(n),
        )
    ).alerts  # fmt: skip
    last = {one.alert_id: one for one in found}
    return [(one.onset, one.severity) for one in last.values()]


def test_what_if_is_what_the_engine_would_have_alerted(site: Site) -> None:
    asked = {"series_id": ODD, "rule": {"direction": "below", "min_deviation": 0.5}}
    answer = site.post("/v1/what-if", asked)
    assert answer.code == 200, answer.body
    models.WhatIf.model_validate_json(answer.body, strict=True)
    found, alerts = answer.json, site.service.store.connector.alerts
    before = [(e["onset"], e["severity"]) for e in found["before"]["episodes"]]
    assert before == expected_episodes(alerts, course())
    assert format_timestamp(START + 350 * 60_000_000_000) in [onset for onset, _ in before]
    assert (found["readings"], found["after"]["direction"]) == (N, "below")
    rule = {"series": 'site/<b>m</b> & "x"/°C', "direction": "below", "min_deviation": 0.5}
    changed = type(alerts).model_validate({**alerts.model_dump(), "rules": [rule]})
    after = [(e["onset"], e["severity"]) for e in found["after"]["episodes"]]
    assert after == expected_episodes(changed, course())
    assert len(after) < len(before)
    changes = [e["change"] for e in found["before"]["episodes"] + found["after"]["episodes"]]
    assert changes.count("stays") % 2 == 0 and changes.count("gone") >= len(before) - len(after)


def test_the_yaml_of_what_if_is_the_rule(site: Site, tmp_path: Path) -> None:
    given = {"false_alarms_per_series_per_day": 0.01, "min_deviation_ratio": 0.25}
    text = site.post("/v1/what-if", {"series_id": ODD, "rule": given}).json["yaml"]
    file = tmp_path / "rule.yaml"
    file.write_text(text, encoding="utf-8")
    assert load_yaml(file, {}).data == {"alerts": {"rules": [{"series": ODD, **given}]}}


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ({"series_id": "a", "rule": {}}, 422, "at least one setting"),
        ({"series_id": "none", "rule": {"min_deviation": 1}}, 404, "'none'"),
        ({"series_id": "a", "rule": {"min_deviation": -1}}, 422, "rule.min_deviation: "),
        ({"series_id": "a", "rule": {"budget": 1}}, 422, "rule.budget: "),
    ],
)
def test_what_if_of_nothing_is_refused(site: Site, body: Any, code: int, words: str) -> None:
    answer = site.post("/v1/what-if", body)
    assert (answer.code, words in answer.json["error"]) == (code, True), answer.body


def test_scores_are_those_of_the_engine(site: Site) -> None:
    values = course()
    given = [
        {"series": ODD, "timestamp": format_timestamp(START + i * 60_000_000_000), "value": value}
        for i, value in enumerate(values.tolist())
    ]
    given[100]["value"] = None
    answer = site.post("/v1/score", {"readings": given})
    assert answer.code == 200, answer.body
    models.ScoreAnswer.model_validate_json(answer.body, strict=True)
    found = answer.json
    assert found["series"] == [ODD] * N
    assert found["status"][100] == "missing" and found["score"][100] is None
    values[100] = np.nan
    engine = build_engine(
        ENGINE_MODEL, EngineSetup(alerts=site.service.store.connector.alerts, topic="in")
    )
    expected = engine.process(
        Readings(
            [ODD] * N, START + np.arange(N) * 60_000_000_000, values,
            np.zeros(N, np.int32), np.arange(N),
        )
    )  # fmt: skip
    surprise = [None if np.isnan(x) else x for x in expected.scores.surprise.tolist()]
    assert found["surprise"] == surprise
    assert [a["alert_id"] for a in found["alerts"]] == [a.alert_id for a in expected.alerts]
    mixed = [{**given[0], "group": "g"}, given[1]]
    assert site.post("/v1/score", {"readings": mixed}).code == 422


def test_a_verdict_is_sent_and_shown(site: Site) -> None:
    body = {"verdict": "expected", "until": "2026-03-02T00:00:00Z", "note": "maintenance"}
    answer = site.post("/v1/alerts/two/verdict", body)
    assert (answer.code, answer.json) == (
        200, {"alert_id": "two", "verdict": "expected", "topic": "control"},
    )  # fmt: skip
    control = site.service._control
    assert isinstance(control, Told)
    name, sent, author = control.sent[-1]
    assert (name, sent.note, author) == ("two", "maintenance", "page")
    assert sent.until == START + 1440 * 60_000_000_000
    assert site.get("/v1/alerts/two").json["alert"]["verdict"] == "expected"
    assert site.post("/v1/alerts/none/verdict", {"verdict": "expected"}).code == 404
    assert site.post("/v1/alerts/two/verdict", {"verdict": "odd"}).code == 422
    assert len(control.sent) == 1


def test_without_a_control_topic_a_verdict_is_refused(site: Site) -> None:
    kept = site.service._control
    site.service._control = NoControl()
    try:
        answer = site.post("/v1/alerts/one/verdict", {"verdict": "false_alarm"})
    finally:
        site.service._control = kept
    assert answer.code == 409 and "no control topic" in answer.json["error"]
    assert site.get("/v1/alerts/one").json["alert"]["verdict"] is None


def test_news_come_as_events(site: Site) -> None:
    connection = http.client.HTTPConnection(urlsplit(site.address).netloc, timeout=60)
    connection.request("GET", "/v1/events")
    stream = connection.getresponse()
    assert stream.getheader("content-type") == "text/event-stream; charset=utf-8"

    def next_status() -> Any:
        while True:
            line = stream.readline()
            assert line, "the stream ended"
            if line.startswith(b"data: "):
                return json.loads(line[6:])

    before = next_status()["versions"]["alerts"]
    site.service.store.take_alert(alert("news", "b", 395))
    while next_status()["versions"]["alerts"] == before:
        pass
    connection.close()


def test_the_page_is_served_at_its_addresses(site: Site) -> None:
    for path in ("/", "/series", f"/series/view?id={quote(ODD)}", "/alert?id=one", "/health"):
        answer = site.get(path)
        assert answer.code == 200 and b'<script type="module"' in answer.body
    script = site.get("/static/app.js")
    assert script.headers["content-type"].startswith("text/javascript")
    again = site.ask("GET", "/static/app.js", headers={"if-none-match": script.headers["etag"]})
    assert (again.code, again.body) == (304, b"")
    for path in ("/static/none.js", "/static/../../pyproject.toml", "/static/%2e%2e/base", "/none"):
        assert site.get(path).code == 404
    assert site.get("/static/vendor/uPlot.LICENSE").body.startswith(b"The MIT License")


@pytest.mark.parametrize("kind", [FatalError, UnreachableError])
def test_what_does_not_answer_is_told_as_such(tmp_path: Path, kind: type[Exception]) -> None:
    class Deaf(Told):
        def send(self, alert: Alert, verdict: VerdictRequest, author: str) -> None:
            raise kind("Kafka did not answer within 10 s")

    one = service(connector(tmp_path), control=Deaf())

    def load() -> Any:
        raise ConnectionError("no MLflow server answers")

    one.trials._load = load
    one.store.take_scores(scores(["a"] * 9, range(9), range(9)), MODEL)
    one.store.take_alert(alert("1", "a", 5))
    reading = {"series": "a", "timestamp": "2026-03-01T00:00:00Z", "value": 1.0}
    with served(one) as site:
        asked = (
            (site.get("/v1/channels", series="a"), 503, "no MLflow server answers"),
            (site.post("/v1/score", {"readings": [reading]}), 503, "no MLflow server answers"),
            (site.post("/v1/alerts/1/verdict", {"verdict": "true_alarm"}), 503, "did not answer"),
            (site.get("/v1/nothing"), 404, "Not Found"),
        )
        for answer, code, told in asked:
            assert answer.code == code and told in answer.json["error"]
            assert "content-security-policy" in answer.headers


def test_the_series_of_a_request_are_bounded(tmp_path: Path) -> None:
    one = service(connector(tmp_path, engine={"max_series": 2}), ENGINE_MODEL)

    def asked(count: int) -> ScoreRequest:
        given = {"timestamp": "2026-03-01T00:00:00Z", "value": 1.0}
        return ScoreRequest.model_validate(
            {"readings": [{"series": f"s{i}", **given} for i in range(count)]}
        )

    assert one.trials.score(asked(2))["series"] == ["s0", "s1"]
    with pytest.raises(ValueError, match="more than 2 series"):
        one.trials.score(asked(3))
    with pytest.raises(ValueError, match="of 1,001 series, more than 1,000"):
        one.trials.score(asked(1_001))


def test_trials_follow_a_worker_that_changes_its_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loaded: list[str] = []
    one = service(connector(tmp_path))
    one.store.take_scores(scores(["a"] * 99, range(99), course()[:99]), ModelRef("m", "1"))

    def load() -> Model:
        if one.store.model == ModelRef("m", "3"):
            raise ConnectionError("no MLflow server answers")
        loaded.append(one.store.model.version if one.store.model is not None else "")
        return replace(ENGINE_MODEL, ref=ModelRef("m", loaded[-1]))

    one.trials._load = load
    for version, expected in (("1", ["1"]), ("2", ["1", "2"]), ("2", ["1", "2"])):
        one.store.model = ModelRef("m", version)
        one.trials.channels("a", None, None, 50)
        assert loaded == expected
    one.store.model = ModelRef("m", "3")
    for _ in range(2):
        one.trials.channels("a", None, None, 50)
    assert caplog.text.count("no MLflow server answers") == 1
