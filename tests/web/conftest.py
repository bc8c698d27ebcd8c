"""A connector for pages that need no Kafka."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.connectors import SETTINGS


@pytest.fixture
def connector(tmp_path: Path) -> str:
    path = tmp_path / "plant.yaml"
    path.write_text(SETTINGS + f"state: {{path: {tmp_path}/state}}\n", encoding="utf-8")
    return str(path)
