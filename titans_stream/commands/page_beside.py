"""The page beside a worker: `run --ui` starts `ui` in a process of its own.

Of its own, because what the page computes would otherwise take turns with the worker's loop; and
a little less urgent than the worker, where they share cores. It ends with the worker, however that
ends; the worker goes on without it.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec

from titans_stream.commands.broker import port_number

log = logging.getLogger(__name__)

PORT = 8765
"""Where `ui` and `run --ui` listen, unless told otherwise."""
PACKAGES = ("fastapi", "uvicorn")
NEEDED = "the page needs more packages: pip install 'titans-stream[ui]'"
NICE = 5
"""How much less urgent than the worker; on the scale of `nice`."""
_LEAVE_SECONDS = 10.0


def add_page(parser: argparse.ArgumentParser) -> None:
    """Add --ui."""
    parser.add_argument(
        "--ui",
        metavar="PORT",
        nargs="?",
        type=port_number,
        const=PORT,
        help=f"serve the page, too, to this machine: default port {PORT}, 0: any free one; "
        "`titans-stream ui` has more options",
    )


def page_command(args: argparse.Namespace) -> list[str]:
    """The arguments of the page's process, out of those of `run`."""
    command = ["ui", str(args.connector), "--port", str(args.ui), "--log-format", args.log_format]
    for part, level in args.log_level:
        command += ["--log-level", "=".join(filter(None, (part, logging.getLevelName(level))))]
    return command + ["-v"] * args.verbose + ["--debug"] * args.debug


@contextmanager
def page_beside(args: argparse.Namespace) -> Iterator[None]:
    """Within the block the page is served, if `--ui` was given.

    ValueError, before anything is started, where packages are missing or the port is taken.
    """
    if args.ui is None:
        yield
        return
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ValueError(f"--ui: {NEEDED} (there is no {missing[0]})")
    _check_port(args.ui)
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(page_command(args),), name="titans-stream-ui"
    )
    process.start()
    leaving = threading.Event()

    def watch() -> None:
        process.join()
        if not leaving.is_set():
            log.error("the page has ended (code %s); the worker goes on", process.exitcode)

    threading.Thread(target=watch, name="page", daemon=True).start()
    try:
        yield
    finally:
        leaving.set()
        process.terminate()
        process.join(_LEAVE_SECONDS)
        if process.is_alive():
            process.kill()


def _check_port(port: int) -> None:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError as error:
            raise ValueError(f"--ui {port}: {error.strerror or error}") from error


def _serve(command: Sequence[str]) -> None:
    """The page's process; it does not outlive the worker's."""
    from titans_stream.cli import main

    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, name="parent", daemon=True).start()
    with suppress(OSError):
        os.nice(NICE)
    raise SystemExit(main(command))
