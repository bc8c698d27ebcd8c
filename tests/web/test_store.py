"""What becomes of messages: series, states, episodes, incidents, groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.web.samples import MINUTE, MODEL, START, alert, connector, later, scores, service
from titans_stream.records import Alert, Status
from titans_stream.stream.membership import Membership
from titans_stream.stream.settings import InputConfig
from titans_stream.web.episodes import MOST_MESSAGES, Episodes
from titans_stream.web.store import Limits, Store
from titans_stream.web.trials import pairs
from titans_stream.web.views import NotFoundError


def store(tmp_path: Path, **changes: object) -> Store:
    return service(connector(tmp_path, **changes)).store


def test_readings_that_were_sent_twice_are_kept_once(tmp_path: Path) -> None:
    one = store(tmp_path)
    frame = scores(["a", "b", "a"], [0, 0, 1], [1.0, 5.0, 2.0])
    one.take_scores(frame, MODEL)
    one.take_scores(scores(["a", "b", "a", "a"], [0, 0, 1, 2], [1.0, 5.0, 2.0, 3.0]), MODEL)
    a = one.catalogue.number("a")
    assert a is not None
    assert one.history.of(a)["value"].tolist() == [1.0, 2.0, 3.0]
    assert one.catalogue.readings[a] == 3
    assert one.newest_time == START + 2 * MINUTE


def test_a_frame_within_an_older_one_changes_nothing(tmp_path: Path) -> None:
    one = store(tmp_path)
    one.take_scores(scores(["a"] * 5, range(5), range(5)), MODEL)
    one.take_scores(scores(["a"] * 2, [1, 2], [1, 2]), MODEL)
    assert one.history.of(0)["value"].tolist() == [0, 1, 2, 3, 4]


def test_a_clock_that_is_set_back_begins_the_history_anew_where_the_engine_follows(
    tmp_path: Path,
) -> None:
    one = store(tmp_path, engine={"clock_reset": "after 2"})
    one.take_scores(scores(["a", "a", "b"], [10, 11, 10], [1.0, 2.0, 3.0]), MODEL)
    one.take_scores(scores(["a"], [5], [7.0]), MODEL)
    assert one.history.of(0)["value"].tolist() == [7.0]
    assert one.history.of(1)["value"].tolist() == [3.0]


def test_what_is_no_part_of_a_series_is_left_out(tmp_path: Path) -> None:
    one = store(tmp_path)
    status = [Status.SCORED, Status.LATE, Status.DUPLICATE, Status.MISSING, Status.WARMING_UP]
    one.take_scores(scores(["a"] * 5, range(5), [1, 2, 3, np.nan, 5], status=status), MODEL)
    assert one.history.of(0)["time"].tolist() == [START, START + 3 * MINUTE, START + 4 * MINUTE]


def test_states_come_from_alerts_and_scores(tmp_path: Path) -> None:
    one = service(connector(tmp_path))
    one.store.take_scores(scores(list("abcde"), [0] * 5, [1] * 5, status=[0, 1, 0, 0, 0]), MODEL)
    one.store.take_alert(alert("1", "c", 1, severity="critical"))
    one.store.take_alert(alert("2", "d", 1, reason="no_data", rate_per_day=None))
    gone = alert("3", "e", 1)
    one.store.take_alert(gone)
    one.store.take_alert(later(gone, 5, status="resolved"))
    found = one.views.series()
    assert [(row["series_id"], row["state"]) for row in found["series"]] == [
        ("c", "critical"), ("d", "silent"), ("b", "learning"), ("a", "normal"), ("e", "normal"),
    ]  # fmt: skip
    assert found["states"] == {
        "normal": 2, "learning": 1, "silent": 1, "warning": 0, "critical": 1,
    }  # fmt: skip
    only = one.views.series(states=["silent", "learning"], sort="name", down=False)
    assert [row["series_id"] for row in only["series"]] == ["b", "d"]


def test_series_are_searched_sorted_and_paged(tmp_path: Path) -> None:
    one = service(connector(tmp_path))
    names = [f"Plant/{i % 7}/m{i}" for i in range(200)]
    values = [float((i * 37) % 200) for i in range(200)]
    values[3] = np.nan
    one.store.take_scores(scores(names, [0] * 200, values), MODEL)
    found = one.views.series(text="plant 3/ M1", sort="value", offset=1, limit=2)
    expected = [i for i in range(200) if i % 7 == 3 and str(i).startswith("1")]
    expected.sort(key=lambda i: -values[i])
    assert found["total"] == len(expected)
    assert [row["series_id"] for row in found["series"]] == [names[i] for i in expected[1:3]]
    last = one.views.series(sort="value", down=True, offset=199)["series"]
    first = one.views.series(sort="value", down=False, offset=199)["series"]
    assert last[0]["series_id"] == first[0]["series_id"] == names[3], "no value stands last"
    assert last[0]["value"] is None and last[0]["spark"] == [None]


def test_messages_about_an_episode_come_in_any_number_and_order(tmp_path: Path) -> None:
    found = Episodes(connector(tmp_path).alerts, 100)
    first = alert("1", "a", 0)
    assert found.take(first)
    assert not found.take(first), "sent twice"
    for minute in range(1, 80):
        assert found.take(later(first, minute, status="updated"))
    assert found.take(later(first, 80, status="resolved", severity="critical"))
    assert not found.take(later(first, 80, status="updated")), "an old one, sent again"
    episode = found.get("1")
    assert episode is not None and not episode.open
    assert len(episode.messages) == MOST_MESSAGES
    assert (episode.messages[0].status, episode.messages[-1].status) == ("opened", "resolved")
    assert (episode.end - episode.onset) == 80 * MINUTE
    assert episode.over == pytest.approx(0.5 / 0.05)


def test_old_episodes_go_before_open_ones(tmp_path: Path) -> None:
    found = Episodes(connector(tmp_path).alerts, 20)
    for i in range(30):
        found.take(alert(str(i), f"s{i}", i, status="resolved" if i % 2 else "opened"))
    left = {int(one.alert.alert_id) for one in found.all()}
    assert {i for i in range(30) if i % 2 == 0} <= left
    assert len(left) <= 22 and found.dropped == 30 - len(left)
    assert found.of("s1") == [] and len(found.of("s0")) == 1


def test_incidents_are_sorted_by_how_grave_they_are(tmp_path: Path) -> None:
    one = service(connector(tmp_path))
    take = one.store.take_alert
    ended = alert("old", "x/1", 0, severity="critical", rate_per_day=1e-9)
    take(ended)
    take(later(ended, 5, status="resolved"))
    take(alert("little", "y/1", 100, rate_per_day=0.25))
    take(alert("much", "z/1", 100, rate_per_day=0.01))
    take(alert("limit", "w/1", 100, reason="valid_range", severity="critical"))
    take(alert("silent", "v/1", 100, reason="no_data", rate_per_day=None, value=None))
    found = one.views.inbox()
    order = [each["episodes"][0]["alert_id"] for each in found["incidents"]]
    assert order == ["limit", "much", "little", "silent", "old"]
    assert found["open"] == 4
    assert found["incidents"][1]["episodes"][0]["over"] == pytest.approx(50.0)
    assert found["incidents"][0]["episodes"][0]["over"] is None, "a limit has no rate"
    shown = one.views.inbox(show="open", text="Z/")["incidents"]
    assert [each["asset"] for each in shown] == ["z"]
    assert one.views.inbox(severity="critical")["total"] == 2
    assert [each["alert_id"] for each in one.views.open_alerts()] == order[:4]


def test_an_incident_is_one_asset_at_one_time(tmp_path: Path) -> None:
    one = service(connector(tmp_path))
    for name, series, minute, lasts in (
        ("1", "p/a", 0, 10), ("2", "p/b", 20, 60), ("3", "p/c", 70, 1), ("4", "p/a", 97, 1),
        ("5", "q/a", 5, 5),
    ):  # fmt: skip
        first = alert(name, series, minute)
        one.store.take_alert(first)
        one.store.take_alert(later(first, lasts, status="resolved"))
    groups = [
        sorted(e["alert_id"] for e in each["episodes"]) for each in one.views.inbox()["incidents"]
    ]
    assert sorted(groups) == [["1", "2", "3"], ["4"], ["5"]]
    told = one.views.explain("2")
    assert [e["alert_id"] for e in told["together"]] == ["3", "1"]
    one.store.take_alert(alert("6", "p/a", 300))
    assert [e["alert_id"] for e in one.views.explain("6")["earlier"]] == ["4", "1"]
    with pytest.raises(NotFoundError, match="'7'"):
        one.views.explain("7")


def test_channels_of_a_group_are_found_by_the_templates(tmp_path: Path) -> None:
    config = InputConfig.model_validate(
        {
            "topic": "in",
            "series": "{site}/{pump}/{value_name}",
            "group": "{pump}@{site}",
            "values": ["flow", "pressure"],
        }
    )
    found = Membership(config)
    assert found.group_of("vienna/p-1/flow") == "p-1@vienna"
    assert found.group_of("vienna") is None
    assert found.members("p-1@vienna", ["vienna/p-1/flow", "graz/p-1/flow"]) == ["vienna/p-1/flow"]
    unknown = Membership(config.model_copy(update={"group": "{line}"}))
    assert unknown.group_of("vienna/p-1/flow") is None
    unknown.tell("vienna/p-1/flow", "line 1")
    assert unknown.group_of("vienna/p-1/flow") == "line 1"
    alone = Membership(config.model_copy(update={"group": None}))
    alone.tell("a", "b")
    assert alone.group_of("a") is None


def test_a_groups_page_names_channels_and_their_alerts(tmp_path: Path) -> None:
    grouped = {
        "topic": "in",
        "series": "{pump}/{value_name}",
        "group": "{pump}",
        "values": ["flow", "pressure"],
        "timestamp": "ts",
    }
    one = service(connector(tmp_path, input=grouped))
    names = ["p1/flow", "p1/pressure", "p2/flow"]
    one.store.take_scores(scores(names, [0, 0, 0], [1, 2, 3]), MODEL)
    channel = {
        "series_id": "p1/flow", "share": 0.8, "value": 9.0, "expected": 1.0, "lower": 0.0,
        "upper": 2.0,
    }  # fmt: skip
    one.store.take_alert(alert("1", "p1", 1, severity="critical", channels=[channel]))
    page = one.views.readings("p1")
    assert page["members"] == ["p1/flow", "p1/pressure"]
    assert page["state"] == "critical" and page["kept"] == 0
    assert one.views.readings("p1/flow")["episodes"][0]["alert_id"] == "1"
    assert one.views.readings("p1/flow")["group"] == "p1"
    assert one.views.readings("p1/pressure")["episodes"] == []
    states = {row["series_id"]: row["state"] for row in one.views.series()["series"]}
    assert states == {"p1/flow": "critical", "p1/pressure": "normal", "p2/flow": "normal"}
    assert one.views.inbox()["incidents"][0]["asset"] == "p1"


@pytest.mark.parametrize("alerts_first", [True, False])
def test_a_group_that_fell_silent_is_no_series(tmp_path: Path, alerts_first: bool) -> None:
    grouped = {"topic": "in", "series": "{site}/{pump}/{value_name}", "group": "{site}/{pump}",
               "values": ["flow", "pressure"], "timestamp": "ts"}  # fmt: skip
    one = service(connector(tmp_path, input=grouped))
    names = ["v/p1/flow", "v/p1/pressure", "v/p2/flow"]

    def tell_alerts() -> None:
        one.store.take_alert(alert("1", "v/p1", 1, reason="no_data", rate_per_day=None))
        one.views.inbox()

    if alerts_first:
        tell_alerts()
    one.store.take_scores(scores(names, [0, 0, 0], [1, 2, 3]), MODEL)
    if not alerts_first:
        tell_alerts()
    states = {row["series_id"]: row["state"] for row in one.views.series()["series"]}
    assert states == {"v/p1/flow": "silent", "v/p1/pressure": "silent", "v/p2/flow": "normal"}
    assert one.views.readings("v/p1")["members"] == names[:2]
    assert one.views.inbox()["incidents"][0]["asset"] == "v/p1"
    one.store.take_alert(alert("2", "v/p3/flow", 2, reason="no_data", rate_per_day=None))
    assert one.views.readings("v/p3/flow")["state"] == "silent"


def test_over_is_in_times_of_the_budget(tmp_path: Path) -> None:
    rule = {"series": "b", "false_alarms_per_series_per_day": 2.0}
    one = service(
        connector(tmp_path, alerts={"false_alarms_per_series_per_day": 0.5, "rules": [rule]})
    )
    n = 11
    one.store.take_scores(scores(["a"] * n, range(n), [1.0] * n, rarity=4.0), MODEL)
    one.store.take_scores(scores(["b"] * n, range(n), [1.0] * n, rarity=4.0), MODEL)
    # once in 10,000 times 100 readings, 1,440 readings a day: 0.00144 episodes a day
    assert one.views.readings("a")["over"][-1] == pytest.approx(0.5 / 0.00144)
    assert one.views.readings("b")["over"][-1] == pytest.approx(2.0 / 0.00144)
    assert one.views.readings("a")["readings_per_day"] == 1440.0
    rows = {row["series_id"]: row for row in one.views.series()["series"]}
    assert rows["b"]["over"] == pytest.approx(2.0 / 0.00144)


def test_what_stands_out_stays_where_readings_are_thinned(tmp_path: Path) -> None:
    one = service(connector(tmp_path))
    n = 1_000
    values, rarity = np.ones(n), np.zeros(n)
    values[[137, 700]] = 50.0, -50.0
    rarity[421] = 3.0
    one.store.take_scores(scores(["a"] * n, range(n), values, rarity=rarity), MODEL)
    page = one.views.readings("a", most=90)
    assert page["kept"] == n and page["shown"] <= 90
    assert 50.0 in page["value"] and -50.0 in page["value"]
    assert max(page["over"]) == pytest.approx(0.5 * 100 / 1440 * 1e3)
    assert page["time"] == sorted(page["time"])


def test_the_budget_counts_what_it_accepts_and_what_opened(tmp_path: Path) -> None:
    one = service(connector(tmp_path))
    assert one.views.budget()["alerts_due"] is None
    for day in range(3):
        minutes = [1440.0 * day, 1440.0 * day + 1]
        one.store.take_scores(scores(["a", "b"], minutes[:1] * 2, [1, 1]), MODEL)
    one.store.take_alert(alert("before", "a", -500))
    one.store.take_alert(alert("1", "a", 500))
    one.store.take_alert(alert("silence", "b", 500, reason="no_data", rate_per_day=None))
    assert one.views.budget() == {"period_days": 2.0, "alerts_due": 2.0, "alerts_opened": 1}


def test_the_budget_of_many_series_over_weeks_is_no_overflow(tmp_path: Path) -> None:
    one = service(connector(tmp_path), limits=Limits(readings=300_000, readings_of_series=32))
    names = [f"s{i}" for i in range(3_000)]
    for day in (0, 40):
        minutes = np.full(len(names), 1440.0 * day)
        one.store.take_scores(scores(names, minutes, np.full(len(names), day)), MODEL)
    assert one.views.budget()["alerts_due"] == pytest.approx(0.5 * 40 * len(names))


def test_episodes_of_two_runs_are_paired_once_and_by_what_they_are() -> None:
    def lasting(name: str, series: str, begin: float, minutes: float, **fields: object) -> Alert:
        return later(alert(name, series, begin, **fields), minutes, status="resolved")

    before = [lasting("1", "a", 0, 10), lasting("2", "a", 20, 10), lasting("3", "b", 0, 10)]
    after = [
        lasting("4", "a", 5, 20),  # overlaps two, is one of them
        lasting("5", "b", 5, 1, reason="no_data"),
        lasting("6", "b", 10, 5),
        lasting("7", "b", 10, 5),
    ]
    found = pairs(before, after)
    assert [id(one) in found for one in before] == [True, False, True]
    assert [id(one) in found for one in after] == [True, False, True, False]
