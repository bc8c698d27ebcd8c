"""A worker in a process of its own, for tests that kill, stop and end it.

Arguments: bootstrap servers, prefix of the topics, folder, JSON with fields of `Setup`, JSON with
arguments of `ExactEngine`. Exit codes are the command line's.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from tests.stream_harness import ExactEngine, Kafka, Setup
from titans_stream.stream.kafka.errors import ConnectError, FatalError
from titans_stream.stream.worker import run_until_signalled


def main(arguments: list[str]) -> int:
    bootstrap, prefix, folder, fields, engine = arguments
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    kafka = Kafka(bootstrap, prefix)
    setup = Setup(kafka, Path(folder), **json.loads(fields))
    worker = setup.worker(ExactEngine(kafka.input, **json.loads(engine)))
    try:
        run_until_signalled(worker)
    except ConnectError as error:
        print(error, file=sys.stderr)
        return 2
    except FatalError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
