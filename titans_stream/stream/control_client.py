"""What sends control messages, and tells what is in force: the command line, a page, a script."""

from __future__ import annotations

from dataclasses import dataclass, field

from kafka import TopicPartition
from kafka.errors import KafkaError

from titans_stream.control.announcements import Swapped, announced, is_announcement
from titans_stream.control.messages import (
    MODEL_ID,
    AnyMessage,
    Mark,
    default_id,
    message_of,
    model_version,
    names_model,
    parse,
    read,
    text_of,
    understood,
)
from titans_stream.records import Alert, Order
from titans_stream.stream.alert_reader import read_alerts
from titans_stream.stream.control_topic import make_control_topics
from titans_stream.stream.journal import Entry
from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.stream.kafka.deadline import ANSWER_MS
from titans_stream.stream.kafka.errors import ConnectError
from titans_stream.stream.kafka.producer import close_producer
from titans_stream.stream.kafka.translation import translated, user_error
from titans_stream.stream.messages import RawMessage
from titans_stream.stream.settings import ControlConfig
from titans_stream.stream.stretch import read_stretch
from titans_stream.times import format_timestamp, parse_timestamp

_SECONDS = 10.0
_MOST = 1_000


@dataclass
class Standing:
    """A control message, and where it took effect.

    `order` has no text where it was undone, and is None, with `problem` why, where it cannot be
    used. `sent` is nanoseconds; `places` are offsets by input partition, those where it has not
    taken effect yet missing.
    """

    id: str
    order: Order | None
    sent: int
    control: tuple[int, int]
    problem: str = ""
    places: dict[TopicPartition, int] = field(default_factory=dict)

    @property
    def in_force(self) -> bool:
        """Whether it says something, and was not undone."""
        return self.order is not None and bool(self.order.text)

    def is_over(self, now: int) -> bool:
        """Whether its `until` is past at `now`, ns: only readings that come late are still met."""
        if self.order is None or not self.order.text or names_model(self.order):
            return False
        until = getattr(parse(self.order.text), "until", None)
        return until is not None and until <= now


def mark_of(
    alert: Alert, action: str, *, until: str | None = None, by: str = "", note: str = ""
) -> Mark:
    """The message that says what an alert was: `false_alarm`, `true_alarm`, or `expected` until a
    time (RFC 3339). ValueError where that cannot be said of the alert."""
    if alert.channels:
        raise ValueError(
            f"{alert.alert_id}: is about the group {alert.series_id}; only single series have "
            "patterns: silence the group, or set a rule for it"
        )
    if alert.reason != "surprise":
        raise ValueError(
            f"{alert.alert_id}: was told for its {alert.reason}; set a rule for the series instead"
        )
    message = message_of(
        {
            "action": action,
            "series": alert.series_id,
            "alert_id": alert.alert_id,
            "from": alert.onset,
            "to": format_timestamp(parse_timestamp(alert.timestamp) + 1),
            "by": by,
            "note": note,
            **({} if until is None else {"until": until}),
        }
    )
    assert isinstance(message, Mark)
    return message


def find_alert(clients: KafkaClients, topic: str, alert_id: str) -> Alert:
    """The last message about an episode. ValueError where there is none of that id."""
    found = None
    for alert in read_alerts(clients, topic):
        if alert.alert_id == alert_id:
            found = alert
    if found is None:
        raise ValueError(f"{alert_id}: topic {topic} holds no alert of this id")
    return found


def send(
    clients: KafkaClients, config: ControlConfig, message: AnyMessage, name: str | None = None
) -> str:
    """Send a message, under `name` or its default id; the id. ConnectError where that fails."""
    name = name or default_id(message)
    _write(clients, config, name, text_of(message).encode())
    return name


def undo(clients: KafkaClients, config: ControlConfig, name: str) -> None:
    """Take a message back. ConnectError where that fails."""
    _write(clients, config, name, b'{"action":"undo"}')


def _write(clients: KafkaClients, config: ControlConfig, name: str, value: bytes) -> None:
    order = read(name.encode(), value)
    assert order.id == name
    make_control_topics(clients, config)
    producer = clients.producer()
    try:
        with translated("control"):
            future = producer.send(config.topic, value, name.encode(), None, None, None)
            future.get(_SECONDS)
    except KafkaError as error:
        raise user_error(error) or ConnectError(f"control.topic: {error}") from error
    finally:
        close_producer(producer, 1.0)


def standing(clients: KafkaClients, config: ControlConfig) -> list[Standing]:
    """The last message of each id, in the order in which they came."""
    found: dict[str, Standing] = {}
    for record in _read_all(clients, config.topic):
        if is_announcement(record.key):
            continue
        name = (record.key or b"").decode(errors="replace")
        order, problem = understood(record.key, record.value)
        found.pop(name, None)
        found[name] = Standing(
            name, order, record.timestamp_ms * 1_000_000, (record.partition, record.offset), problem
        )
    for record in _read_all(clients, config.journal):
        try:
            entry = Entry.decode(record.key, record.value)
        except ValueError:
            continue
        one = found.get(entry.id)
        if one is not None and one.control == entry.control:
            one.places[entry.partition] = entry.at
    return list(found.values())


def swaps(clients: KafkaClients, config: ControlConfig, group_id: str) -> list[Swapped]:
    """The last change of the model of each partition of a group, as workers announced them."""
    found: dict[bytes, Swapped] = {}
    for record in _read_all(clients, config.topic):
        told = announced(record.value) if is_announcement(record.key) else None
        if told is not None and told.group_id == group_id:
            found[record.key or b""] = told
    return sorted(found.values(), key=lambda one: (one.topic, one.partition))


def model_places(changes: list[Swapped], one: Standing) -> dict[TopicPartition, int]:
    """Where partitions changed to the version that a message names, of those on it now."""
    if one.id != MODEL_ID or one.order is None:
        return {}
    version = model_version(one.order)
    return {
        TopicPartition(each.topic, each.partition): each.offset
        for each in changes
        if each.model.version == version
    }


def _read_all(clients: KafkaClients, topic: str) -> list[RawMessage]:
    """All committed messages of a topic; none where it does not exist."""
    info = clients.topics([topic])[topic]
    if info is None:
        return []
    names = [TopicPartition(topic, number) for number in info.partitions]
    found: list[RawMessage] = []
    consumer = clients.consumer(None)
    try:
        with translated("control"):
            ends = consumer.end_offsets(names, ANSWER_MS)
            begins = consumer.beginning_offsets(names, ANSWER_MS)
        for name in names:
            for messages in read_stretch(consumer, name, begins[name], ends[name], _MOST, _SECONDS):
                found += messages
    finally:
        consumer.close(False, 1_000)
    return sorted(found, key=lambda record: (record.timestamp_ms, record.partition, record.offset))
