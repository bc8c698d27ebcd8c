"""A real Alertmanager takes what is sent, keeps one alert an episode, and says when it is over."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ops.test_notify import Running, Stub, alert, connector, eventually, publish, stub
from titans_stream.devbroker.broker import DevBroker

BINARY = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BINARY is None, reason="no Alertmanager (Debian: prometheus-alertmanager)"),
]
__all__ = ["stub"]

CONFIG = """\
route:
  {{receiver: stub, group_by: ["..."], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers: [{{name: stub, webhook_configs: [{{url: '{url}/told', send_resolved: true}}]}}]
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture
def manager(stub: Stub, tmp_path: Path) -> Iterator[str]:
    assert BINARY is not None
    config = tmp_path / "alertmanager.yml"
    config.write_text(CONFIG.format(url=stub.url))
    port = free_port()
    with (tmp_path / "alertmanager.log").open("w") as log:
        process = subprocess.Popen(
            [
                BINARY,
                f"--config.file={config}",
                f"--storage.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--cluster.listen-address=",
            ],
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        eventually(ready)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def alerts(url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{url}/api/v2/alerts", timeout=10) as answer:
        found: list[dict[str, Any]] = json.loads(answer.read())
    return found


def told(stub: Stub) -> list[tuple[str, str, str]]:
    """What Alertmanager's own webhook said: status, series, severity."""
    return [
        (one["status"], one["labels"]["series"], one["labels"]["severity"])
        for path, _, body in stub.seen
        if path == "/told"
        for one in body["alerts"]
    ]


def test_an_episode_from_its_onset_to_its_end(stub: Stub, manager: str) -> None:
    notify = {"alertmanager": {"urls": manager, "resend_every": "1s", "lasts": "5s"}}
    with DevBroker(auto_create=False, topics={"alerts": 1}) as broker:
        settings = connector(notify, broker.bootstrap)
        running = Running(settings).joined()
        publish(broker, alert("a", series_id="vienna/press"), alert("b", series_id='gräz "1"\n'))
        eventually(lambda: len(alerts(manager)) == 2)
        assert {one["labels"]["series"] for one in alerts(manager)} == {
            "vienna/press",
            'gräz "1"\n',
        }
        eventually(lambda: len(told(stub)) == 2)

        publish(
            broker, alert("b", "updated", series_id='gräz "1"\n', severity="critical", value=9e9)
        )
        eventually(lambda: ("firing", 'gräz "1"\n', "critical") in told(stub))
        eventually(lambda: ("resolved", 'gräz "1"\n', "warning") in told(stub))
        active = alerts(manager)
        assert len(active) == 2
        assert all("9e+09" not in str(one["labels"]) for one in active)

        running.end()
        again = Running(settings).joined()
        refreshed = again.couriers["alertmanager"].receiver
        eventually(lambda: refreshed.open_count == 2)
        publish(broker, alert("a", "resolved", series_id="vienna/press"))
        eventually(lambda: ("resolved", "vienna/press", "warning") in told(stub))
        assert [one["labels"]["severity"] for one in alerts(manager)] == ["critical"]
        again.end()
        eventually(lambda: alerts(manager) == [])  # what nobody sends any more ends after `lasts`
    assert len([one for one in told(stub) if one[1] == "vienna/press"]) == 2, "once each"
