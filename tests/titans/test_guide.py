"""The example of docs/titans.md runs as printed and learns."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_example_runs_and_recalls() -> None:
    guide = (REPO / "docs" / "titans.md").read_text()
    example = re.search(r"```python\n(import torch\n.*?)```", guide, re.DOTALL)
    assert example is not None
    done = subprocess.run(
        [sys.executable, "-c", example[1]], cwd=REPO, capture_output=True, text=True, check=True
    )
    right = re.search(r"streamed: right (\S+),", done.stdout)
    apart = re.search(r"difference to one call: (\S+)", done.stdout)
    assert right is not None
    assert float(right[1]) > 0.9
    assert apart is not None
    assert float(apart[1]) < 1e-4
