"""A connector for pages that need no Kafka."""

from __future__ import annotations

from pathlib import Path

import pytest

SETTINGS = """
name: plant
kafka: {bootstrap_servers: "127.0.0.1:1"}
input: {topic: in, series: "{s}", value: v}
output: {alerts: alerts}
"""


@pytest.fixture
def connector(tmp_path: Path) -> str:
    path = tmp_path / "plant.yaml"
    path.write_text(SETTINGS + f"state: {{path: {tmp_path}/state}}\n", encoding="utf-8")
    return str(path)
