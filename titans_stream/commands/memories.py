"""A connector's engine, and what became of the memories that its last worker saved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from titans_stream.engine.build import EngineSetup, build_engine
from titans_stream.engine.snapshot import schema_difference, state_meaning
from titans_stream.ops.places import place_of
from titans_stream.ops.storage import Snapshots
from titans_stream.records import restorable

if TYPE_CHECKING:
    from titans_stream.config import Connector
    from titans_stream.engine.engine import StreamEngine
    from titans_stream.engine.model import Model


def connector_engine(connector: Connector, model: Model) -> StreamEngine:
    """A fresh engine with a connector's settings."""
    return build_engine(
        model,
        EngineSetup(connector.engine, connector.alerts, connector.forecast, connector.input.topic),
    )


def connector_snapshots(connector: Connector, model: Model) -> Snapshots:
    """Where a connector's snapshots are; new ones tell in words what gives them their meaning."""
    return Snapshots(
        place_of(connector.state.path, connector.state.snapshots),
        connector.input.group_id,
        connector.state.keep,
        about=state_meaning(model, connector.engine),
    )


def lost_memories(connector: Connector, engine: StreamEngine, snapshots: Snapshots) -> str | None:
    """Why saved memories start anew, in a line; None where they go on or where there are none."""
    try:
        headers = {
            (topic, partition): header
            for topic in filter(connector.input.subscription.has, snapshots.topics())
            for partition, header in snapshots.newest(topic).items()
        }
    except OSError as error:
        return f"whether saved memories go on is not known: {error}"
    wanted = engine.state_schema
    old = {p: one for p, one in headers.items() if not restorable(one.get("schema", ""), wanted)}
    if not old:
        return None
    meaning = state_meaning(engine.model, connector.engine)
    changes = {text for header in old.values() for text in schema_difference(header, meaning)}
    why = "; ".join(sorted(changes)) or "they are of another version of titans-stream"
    start = (
        "start: earliest replays the topic to learn them"
        if connector.input.start == "earliest"
        else "input.start: earliest would replay the topic to learn them"
    )
    return (
        f"the memories in {snapshots} start anew in {len(old)} of {len(headers)} "
        f"partitions, for their meaning has changed ({why}); {start}"
    )
