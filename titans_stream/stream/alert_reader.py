"""Reads the alerts topic, as any independent consumer would."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import msgspec
from kafka import TopicPartition

from titans_stream.records import Alert
from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.stream.kafka.deadline import ANSWER_MS
from titans_stream.stream.kafka.errors import ConnectError
from titans_stream.stream.kafka.translation import translated
from titans_stream.stream.stretch import begin_at

log = logging.getLogger(__name__)

_POLL_MS = 200
_MOST_RECORDS = 1_000


def read_alerts(
    clients: KafkaClients,
    topic: str,
    *,
    from_beginning: bool = True,
    follow: bool = False,
    stop: threading.Event | None = None,
) -> Iterator[Alert]:
    """The committed alerts of a topic, each partition in its order.

    From the first one or from now on; to the end as it is now, or for ever (`follow`), until
    `stop` is set. Messages that are no alerts are passed over with a warning. ConnectError where
    the topic is missing or may not be read.
    """
    info = clients.topics([topic])[topic]
    if info is None:
        raise ConnectError(f"output.alerts: topic {topic} does not exist on {clients.servers}")
    stop = stop if stop is not None else threading.Event()
    decoder = msgspec.json.Decoder(Alert)
    consumer = clients.consumer(None)
    try:
        with translated("alerts"):
            names = [TopicPartition(topic, partition) for partition in info.partitions]
            ends = begin_at(
                consumer, names, lambda _, begin, end: begin if from_beginning else end, ANSWER_MS
            )
            open_names = set(names)
            while not stop.is_set():
                if not follow:
                    open_names = {n for n in open_names if (consumer.position(n) or 0) < ends[n]}
                    if not open_names:
                        return
                for name, records in consumer.poll(_POLL_MS, _MOST_RECORDS).items():
                    for record in records:
                        if not follow and record.offset >= ends[name]:
                            break
                        try:
                            yield decoder.decode(record.value or b"")
                        except ValueError as error:
                            log.warning(
                                "%s partition %d offset %d is no alert: %s",
                                topic,
                                record.partition,
                                record.offset,
                                error,
                            )
    finally:
        consumer.close(False, 1_000)
