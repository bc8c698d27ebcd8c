"""A short name for settings and weights that give a saved state its meaning."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from pydantic import BaseModel


def config_hash(parts: Mapping[str, object]) -> str:
    """16 hexadecimal digits that change with any of the parts, and with nothing else.

    A part is a pydantic model or JSON data. The order of keys does not matter, the kind of a
    number does.
    """
    plain = {
        name: part.model_dump(mode="json") if isinstance(part, BaseModel) else part
        for name, part in parts.items()
    }
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
