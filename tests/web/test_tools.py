"""The tools as a client of the protocol sees them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

mcp = pytest.importorskip("mcp", reason="mcp: titans-stream[mcp]")

from tests.engine.streams import MODEL as ENGINE_MODEL  # noqa: E402
from tests.web.samples import MODEL, alert, connector, scores, service  # noqa: E402
from titans_stream.devbroker.broker import DevBroker  # noqa: E402
from titans_stream.stream.kafka.client import KafkaClients  # noqa: E402
from titans_stream.web.tools import build_tools  # noqa: E402


def call(tmp_path: Path, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    """The answers of tools, or the words of their errors."""
    with DevBroker(topics=dict.fromkeys(("in", "alerts", "scores", "dead"), 1)) as broker:
        one = service(
            connector(
                tmp_path,
                kafka={"bootstrap_servers": broker.bootstrap},
                output={"alerts": "alerts", "scores": "scores", "dead_letter": "dead"},
            ),
            ENGINE_MODEL,
        )
        one.store.take_scores(scores(["a"] * 60, range(60), [1.0] * 60), MODEL)
        one.store.take_alert(alert("1", "a", 59))
        server = build_tools(one, KafkaClients(one.store.connector.kafka, patience=10.0))

        async def ask() -> list[Any]:
            async with mcp.Client(server) as client:
                tools = {tool.name: tool for tool in (await client.list_tools()).tools}
                assert all(tool.annotations.read_only_hint for tool in tools.values())
                assert set(tools) == {
                    "check_connector", "status", "open_alerts", "explain_alert", "find_series",
                    "what_if", "score_sample", "surprise_channels",
                }  # fmt: skip
                found = []
                for name, given in calls:
                    answer = await client.call_tool(name, given)
                    found.append(
                        answer.content[0].text if answer.is_error else answer.structured_content
                    )
                return found

        return asyncio.run(ask())


def test_tools_answer_as_the_api_does(tmp_path: Path) -> None:
    rule = {"series_id": "a", "rule": {"min_deviation": 3}}
    reading = {"series": "x", "timestamp": "2026-03-01T00:00:00Z", "value": 1.5}
    told, series, explained, tried, scored, missing, wrong = call(
        tmp_path,
        ("open_alerts", {}),
        ("find_series", {"text": "a"}),
        ("explain_alert", {"alert_id": "1"}),
        ("what_if", rule),
        ("score_sample", {"readings": [reading]}),
        ("explain_alert", {"alert_id": "none"}),
        ("what_if", {"series_id": "a", "rule": {}}),
    )
    assert [one["alert_id"] for one in told["alerts"]] == ["1"]
    assert series["series"][0]["series_id"] == "a"
    assert explained["alert"]["explanation"] == "a is odd"
    assert (tried["readings"], tried["after"]["min_deviation"]) == (60, 3.0)
    assert (scored["series"], scored["value"]) == (["x"], [1.5])
    assert "no alert 'none'" in missing
    assert "at least one setting" in wrong


def test_a_connector_is_checked(tmp_path: Path) -> None:
    (found,) = call(tmp_path, ("check_connector", {"messages": 0}))
    assert found["partitions"] == [{"topic": "in", "partition": 0, "messages": 0, "lag": None}]
    assert found["topics"]["output.alerts"] == "alerts"
