"""Notifications of MLflow's registry: who may wake the worker, and MLflow's own."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from tests.lifecycle.conftest import free_port, serving
from tests.stream_harness import eventually
from titans_stream.commands.worker_jobs import worker_jobs
from titans_stream.config import ConfigError, load_connector
from titans_stream.job_settings import POLL_JOB
from titans_stream.jobs.records import JobRecords
from titans_stream.lifecycle.mlflow_library import MlflowClient
from titans_stream.ops.registry_webhook import RegistryWebhook

SECRET = "0123456789abcdef-secret"


class Woken:
    """Counts."""

    def __init__(self) -> None:
        self.count = 0
        self.event = threading.Event()

    def __call__(self) -> None:
        self.count += 1
        self.event.set()


@pytest.fixture
def woken() -> Woken:
    return Woken()


@pytest.fixture
def webhook(woken: Woken) -> Iterator[RegistryWebhook]:
    with RegistryWebhook("127.0.0.1", 0, SECRET, woken) as listening:
        yield listening


def post(address: str, body: bytes, secret: str = SECRET, age: int = 0, **changes: str) -> int:
    """Send a notification as MLflow signs them; the status of the answer."""
    stamp = str(int(time.time()) - age)
    digest = hmac.new(secret.encode(), f"id-1.{stamp}.".encode() + body, hashlib.sha256).digest()
    headers = {
        "X-MLflow-Delivery-Id": "id-1",
        "X-MLflow-Timestamp": stamp,
        "X-MLflow-Signature": "v1," + base64.b64encode(digest).decode(),
        **{f"X-MLflow-{name}": value for name, value in changes.items()},
    }
    request = urllib.request.Request(address, body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=90) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_only_signed_and_fresh_notifications_wake(webhook: RegistryWebhook, woken: Woken) -> None:
    body = b'{"entity": "model_version_alias"}'
    assert post(webhook.address, body) == 204
    assert woken.count == 1
    assert post(webhook.address, body, secret="another secret") == 401
    assert post(webhook.address, body, age=3_600) == 401
    assert post(webhook.address, body, age=-3_600) == 401
    for name, value in {"Signature": "", "Timestamp": "now", "Delivery-Id": "id-2"}.items():
        assert post(webhook.address, body, **{name: value}) == 401
    address = urlsplit(webhook.address)
    assert address.hostname is not None
    large = HTTPConnection(address.hostname, address.port, timeout=90)
    large.putrequest("POST", address.path)
    large.putheader("Content-Length", "70000")
    large.endheaders()
    assert large.getresponse().status == 413
    large.close()
    assert post(webhook.address.replace("/mlflow", "/"), body) == 404
    assert woken.count == 1


def test_settings_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"

    def load(model: str, webhook: str) -> None:
        path.write_text(
            "name: c\nkafka: {bootstrap_servers: 'localhost:1'}\n"
            "input: {topic: in, series: '{s}', value: v}\noutput: {alerts: out}\n"
            f"model: {model}\nswap: {{webhook: {webhook}}}\n"
        )
        load_connector(path, {"SECRET": SECRET, "SHORT": "abc"})

    load("models:/c@champion", "{port: 8091, secret: '${SECRET}'}")
    with pytest.raises(ConfigError, match="a secret may not be written here"):
        load("models:/c@champion", "{port: 8091, secret: abcdefghijklmnopqrst}")
    with pytest.raises(ConfigError, match="at least 16"):
        load("models:/c@champion", "{port: 8091, secret: '${SHORT}'}")
    with pytest.raises(ConfigError, match=r"swap.webhook: it needs model: models:/NAME@ALIAS"):
        load("base", "{port: 8091, secret: '${SECRET}'}")


@pytest.mark.slow
def test_mlflows_own_notification_wakes(
    tmp_path: Path, webhook: RegistryWebhook, woken: Woken
) -> None:
    from mlflow.entities.webhook import WebhookEvent

    more = {
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    }
    with serving(tmp_path, **more) as server:
        client = MlflowClient(server.uri, server.uri)
        event = WebhookEvent.from_str("model_version_alias.created")
        client.create_webhook("c", webhook.address, [event], secret=SECRET)
        client.create_registered_model("c")
        client.create_model_version("c", "s3://nobody-looks-there/c")
        assert woken.count == 0
        client.set_registered_model_alias("c", "champion", "1")
        assert woken.event.wait(120)


def test_a_notification_brings_the_look_forward(tmp_path: Path) -> None:
    path, port, looked = tmp_path / "c.yaml", free_port(), threading.Event()
    path.write_text(
        "name: c\nkafka: {bootstrap_servers: 'localhost:1'}\n"
        f"input: {{topic: in, series: '{{s}}', value: v}}\noutput: {{alerts: out}}\n"
        f"state: {{path: {tmp_path}/state}}\nmodel: models:/c@champion\n"
        f"swap: {{poll: 1m, webhook: {{port: {port}, secret: '${{SECRET}}'}}}}\n"
    )
    connector = load_connector(path, {"SECRET": SECRET})

    def look() -> str:
        looked.set()
        return "c version 2 is champion now"

    worker, switch = SimpleNamespace(), SimpleNamespace(look=look)
    with worker_jobs(connector, worker, switch):  # type: ignore[arg-type]
        assert post(f"http://127.0.0.1:{port}/mlflow", b"{}") == 204
        assert looked.wait(120)
        records = JobRecords(tmp_path / "state")
        eventually(lambda: records.get(POLL_JOB).outcome == "done")
    assert records.get(POLL_JOB).detail == "c version 2 is champion now"
