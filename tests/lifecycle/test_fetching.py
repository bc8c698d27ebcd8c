"""Downloads of models from servers that mean harm."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from titans_stream.lifecycle import fetching
from titans_stream.lifecycle.artifacts import CARD_FILE, FILE_LIMITS, WEIGHTS_FILE
from titans_stream.lifecycle.fetching import fetch

LISTING = {
    "files": [
        {"path": name, "is_dir": False, "file_size": 10} for name in (CARD_FILE, WEIGHTS_FILE)
    ]
}


class Server(http.server.ThreadingHTTPServer):
    """Lists two small files; `listing` are the bytes of the list, a file has no end."""

    daemon_threads = True
    listing = json.dumps(LISTING).encode()
    sent = 0
    silent = False
    breaks = ""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *arguments: Any) -> None: ...

    def do_GET(self) -> None:
        if self.server.silent:
            time.sleep(60)
        if self.server.breaks == "503" and "/artifacts/" in self.path:
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        if "/artifacts/" not in self.path:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(self.server.listing)))
            self.end_headers()
            self.wfile.write(self.server.listing)
            return
        if self.server.breaks == "off":
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 10)
            self.close_connection = True
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        chunk = b"x" * 2**20
        try:
            while self.server.sent < 400 * 2**20:
                self.wfile.write(b"%x\r\n" % len(chunk) + chunk + b"\r\n")
                self.server.sent += len(chunk)
        except OSError:
            self.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def attempt(server: Server, folder: Path) -> None:
    fetch("mlflow-artifacts:/x", folder, f"http://127.0.0.1:{server.server_port}")


def test_a_file_without_end_ends_at_its_limit(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.safetensors: larger than|model\.json: larger"):
        attempt(server, tmp_path)
    largest = max((p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()), default=0)
    assert largest <= max(FILE_LIMITS.values())
    assert server.sent < 300 * 2**20


def test_a_listing_without_sense_is_an_error_in_a_line(server: Server, tmp_path: Path) -> None:
    server.listing = b"[" * 200_000
    with pytest.raises((ValueError, OSError, fetching.FetchError)):
        attempt(server, tmp_path)


def test_an_answer_that_does_not_come_is_not_waited_for(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_SECONDS", 2.0)
    server.silent = True
    begun = time.monotonic()
    with pytest.raises(OSError, match="mlflow-artifacts:/x: not fetched within 2 s"):
        attempt(server, tmp_path)
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize(
    ("breaks", "told"),
    [("503", "503 error"), pytest.param("off", "Connection broken", marks=pytest.mark.slow)],
)
def test_a_store_that_fails_says_nothing_of_the_model(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks: str, told: str
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server.breaks = breaks
    with pytest.raises(OSError, match=told) as caught:
        attempt(server, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_an_object_store_that_does_not_answer_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("boto3")
    for name, value in {
        "MLFLOW_S3_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x", "AWS_MAX_ATTEMPTS": "1", "AWS_DEFAULT_REGION": "x",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with pytest.raises(OSError, match=r"127\.0\.0\.1:9"):
        fetch("s3://bucket/model", tmp_path, "http://127.0.0.1:9")


@pytest.mark.parametrize("scheme", ["http", "https", "ftp", "sftp", "hdfs", "data", "models"])
def test_other_sources_are_refused(scheme: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"its source {scheme}://h/x is not fetched"):
        fetch(f"{scheme}://h/x", tmp_path, "http://127.0.0.1:9")
