"""What a person says of an alert reaches the control topic, and is known after a restart."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.web.samples import alert, connector, service
from titans_stream.control.messages import Mark, parse
from titans_stream.devbroker.broker import DevBroker
from titans_stream.stream.control_client import standing
from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.web.control import KafkaControl
from titans_stream.web.models import VerdictRequest


def test_a_verdict_goes_to_the_control_topic_and_comes_back(tmp_path: Path) -> None:
    with DevBroker(topics=dict.fromkeys(("in", "alerts", "scores"), 1)) as broker:
        one = connector(
            tmp_path, kafka={"bootstrap_servers": broker.bootstrap}, control="plant.control"
        )
        assert one.control is not None
        clients = KafkaClients(one.kafka, patience=20.0)
        control = KafkaControl(clients, one.control)
        first = service(one, control=control)
        for name in ("1", "2"):
            first.store.take_alert(alert(name, "a", 5))
        group = alert("g", "p", 5, channels=[{
            "series_id": "p/a", "share": 1.0, "value": 1.0, "expected": None, "lower": None,
            "upper": None,
        }])  # fmt: skip
        first.store.take_alert(group)
        told = first.say("1", VerdictRequest(verdict="false_alarm", note="a test"), "ada")
        assert told == {"alert_id": "1", "verdict": "false_alarm", "topic": "plant.control"}
        with pytest.raises(ValueError, match="until: needed for expected"):
            first.say("2", VerdictRequest(verdict="expected"), "ada")
        with pytest.raises(ValueError, match="is about the group p"):
            first.say("g", VerdictRequest(verdict="false_alarm"), "ada")
        (sent,) = standing(clients, one.control)
        assert sent.order is not None
        mark = parse(sent.order.text)
        assert isinstance(mark, Mark)
        assert (mark.action, mark.series, mark.alert_id) == ("false_alarm", "a", "1")
        assert (mark.by, mark.note) == ("ada", "a test")

        again = service(one, control=KafkaControl(clients, one.control))
        again.store.take_alert(alert("1", "a", 5))
        again.start()
        try:
            deadline = time.monotonic() + 60
            while again.views.explain("1")["alert"]["verdict"] != "false_alarm":
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            again.stop()
        again.store.take_alert(alert("2", "a", 5))
        assert again.views.explain("2")["alert"]["verdict"] is None
