"""Downloads a model's two files in a process of its own, which the system bounds.

What a registry and its servers say of a file need not be true: a small file in the listing may
have no end, an answer may never come. MLflow has no limits for that, whatever the store. So the
download runs as `python -m titans_stream.lifecycle.fetching`: its files cannot grow beyond the
limits of `artifacts.FILE_LIMITS`, its memory not beyond `_MOST_MEMORY`, and it is ended after
`_SECONDS`. The task comes on its standard input, so that no list of processes shows a password.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from titans_stream.lifecycle.artifacts import FILE_LIMITS

SCHEMES = ("file", "mlflow-artifacts", "s3", "gs", "wasbs", "abfss", "dbfs")
"""Kinds of source that are fetched; a path without scheme is one too."""

_SECONDS = 300.0
_MOST_MEMORY = 4 * 2**30
_LONGEST_TEXT = 2_000
_TOO_LARGE = "File too large"
_FAILED = {"ValueError": ValueError, "OSError": OSError}


class FetchError(Exception):
    """MLflow's own error, with its text."""


def fetch(source: str, folder: Path, tracking_uri: str) -> None:
    """Download the two files of a model at `source`, and nothing else, into `folder`.

    ValueError for a source of a kind that is not fetched, that is no model, or whose files are too
    large; OSError where they cannot be had now: the store does not answer, or breaks off;
    FetchError for what MLflow says of the source.
    """
    scheme = urlsplit(source).scheme
    if scheme and scheme not in SCHEMES:
        raise ValueError(
            f"its source {source} is not fetched; a path is needed, or one of "
            f"{', '.join(f'{each}:' for each in SCHEMES)}"
        )
    task = json.dumps({"source": source, "folder": str(folder), "tracking_uri": tracking_uri})
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-P", "-m", __name__],
            input=task,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise OSError(f"{source}: not fetched within {_SECONDS:.0f} s") from None
    try:
        kind, text = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise OSError(f"{source}: the download ended with exit code {done.returncode}") from None
    if kind:
        raise _FAILED.get(kind, FetchError)(text)


def _download(source: str, folder: str, tracking_uri: str) -> None:
    from titans_stream.lifecycle.mlflow_library import artifacts

    listed = artifacts.list_artifacts(artifact_uri=source, tracking_uri=tracking_uri)
    sizes = {Path(entry.path).name: entry.file_size for entry in listed if not entry.is_dir}
    for name, limit in FILE_LIMITS.items():
        if name not in sizes:
            raise ValueError(f"{source}: no {name} there; not a model of titans-stream")
        if (sizes[name] or 0) > limit:
            raise ValueError(f"{source}/{name}: larger than {limit:,} bytes")
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            artifacts.download_artifacts(
                artifact_uri=f"{source}/{name}", dst_path=folder, tracking_uri=tracking_uri
            )
        except Exception as error:
            if _TOO_LARGE in str(error):
                raise ValueError(f"{source}/{name}: larger than {limit:,} bytes") from error
            # it is listed: whatever keeps it back now says nothing of the model
            raise OSError(f"{source}/{name}: {_last_line(error)}") from error


def _last_line(error: BaseException) -> str:
    """The end of an error's text, where MLflow tells the reason behind its lists of files."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def _kind(error: BaseException) -> str:
    """As which error it is told; clients of object stores have exceptions of their own kinds."""
    if type(error).__name__ == "MlflowException":
        return "FetchError"
    refused = isinstance(error, ValueError | MemoryError | RecursionError)
    return "ValueError" if refused else "OSError"


def main() -> None:
    """Do the task on standard input; the last line of the output says how it ended."""
    task = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY, resource.RLIM_INFINITY))
    outcome = ("", "")
    try:
        _download(**task)
    except Exception as error:  # noqa: BLE001 whatever a server's answer leads to
        text = str(error).strip() or type(error).__name__
        outcome = (_kind(error), text[:_LONGEST_TEXT])
    sys.stdout.write("\n" + json.dumps(outcome) + "\n")


if __name__ == "__main__":
    main()
