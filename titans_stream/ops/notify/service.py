"""The couriers of a connector's receivers, each in a thread of its own, and their metrics."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from titans_stream.config import Connector
from titans_stream.ops.notify.alertmanager import Alertmanager
from titans_stream.ops.notify.courier import Courier
from titans_stream.ops.notify.receiver import Receiver
from titans_stream.ops.notify.webhook import Webhook
from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.stream.kafka.errors import StoppedError


def couriers(connector: Connector, clients: KafkaClients, stop: threading.Event) -> list[Courier]:
    """One courier per receiver of the connector."""
    notify = connector.notify
    found: dict[str, tuple[Receiver, int]] = {}
    if notify.alertmanager is not None:
        receiver = Alertmanager(notify.alertmanager, connector.name)
        found["alertmanager"] = receiver, notify.alertmanager.give_up_after
    for name, config in notify.webhooks.items():
        found[f"webhook-{name}"] = Webhook(config, connector.name), config.give_up_after
    return [
        Courier(
            name,
            receiver,
            clients,
            connector.output.alerts,
            f"{notify.group_id}.{name}",
            notify.history,
            give_up_after,
            stop,
        )
        for name, (receiver, give_up_after) in found.items()
    ]


def deliver(running: Sequence[Courier], stop: threading.Event) -> None:
    """Run couriers until `stop`; what ends one of them ends all, and is raised."""
    errors: list[Exception] = []

    def run(courier: Courier) -> None:
        try:
            courier.run()
        except StoppedError:
            pass
        except Exception as error:  # noqa: BLE001 - raised again below, in the main thread
            errors.append(error)
        finally:
            stop.set()

    threads = [
        threading.Thread(target=run, args=(courier,), name=courier.name) for courier in running
    ]
    for thread in threads:
        thread.start()
    stop.wait()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


class NotifyCollector(Collector):
    """The numbers of couriers as they are at the time of a scrape."""

    def __init__(self, running: Sequence[Courier]) -> None:
        self._running = running

    def collect(self) -> Iterator[Metric]:
        """All numbers; called by the registry, from any thread."""
        label = ["receiver"]
        done = CounterMetricFamily(
            "titans_notify_messages",
            "alert messages that are done with: delivered, or not for this receiver; dropped",
            labels=[*label, "outcome"],
        )
        failures = CounterMetricFamily(
            "titans_notify_failures", "attempts that failed", labels=label
        )
        waiting = GaugeMetricFamily(
            "titans_notify_lag_messages", "alert messages not yet delivered", labels=label
        )
        opened = GaugeMetricFamily(
            "titans_notify_open_alerts", "alerts that are kept because they are open", labels=label
        )
        last = GaugeMetricFamily(
            "titans_notify_last_success_timestamp_seconds",
            "when the receiver took something, or there was nothing to send",
            labels=label,
        )
        for courier in self._running:
            name, numbers = courier.name, courier.numbers
            done.add_metric([name, "delivered"], numbers.delivered)
            done.add_metric([name, "dropped"], numbers.dropped)
            failures.add_metric([name], numbers.failures)
            waiting.add_metric([name], numbers.lag)
            opened.add_metric([name], courier.receiver.open_count)
            if numbers.last_success:
                last.add_metric([name], numbers.last_success)
        yield from (done, failures, waiting, opened, last)
