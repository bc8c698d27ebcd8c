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


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *arguments: Any) -> None: ...

    def do_GET(self) -> None:
        if self.server.silent:
            time.sleep(60)
        self.send_response(200)
        if "/artifacts/" not in self.path:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(self.server.listing)))
            self.end_headers()
            self.wfile.write(self.server.listing)
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


@pytest.mark.parametrize("scheme", ["http", "https", "ftp", "sftp", "hdfs", "data", "models"])
def test_other_sources_are_refused(scheme: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"its source {scheme}://h/x is not fetched"):
        fetch(f"{scheme}://h/x", tmp_path, "http://127.0.0.1:9")
