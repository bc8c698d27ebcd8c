"""Building engines: the kernels are ready before readings come, and what a state means in words."""

from __future__ import annotations

import subprocess
import sys

import pytest

from titans_stream.engine.settings import EngineConfig
from titans_stream.engine.snapshot import schema_difference, state_meaning
from titans_stream.lifecycle.artifacts import base_model

READY = """
import gc
import numpy as np
from numba.core.dispatcher import Dispatcher
from titans_stream.engine.build import build_engine, compile_kernels
from titans_stream.lifecycle.artifacts import base_model
from titans_stream.records import Readings

def compiled():
    kernels = [one for one in gc.get_objects() if isinstance(one, Dispatcher)]
    return {one.py_func.__qualname__: len(one.signatures) for one in kernels}

compile_kernels(base_model(), grouped=%s)
before = compiled()
engine = build_engine(base_model())
for group in %s:
    engine.process(Readings(["a"] * 300, np.arange(300) * 10**9, np.sin(np.arange(300.0)) ** 9,
                            np.zeros(300, np.int32), np.arange(300), group))
after = compiled()
print({name: count for name, count in after.items() if count != before.get(name)})
"""


@pytest.mark.parametrize(
    ("grouped", "groups"), [("False", "[None]"), ("True", "[None, ['g'] * 300]")]
)
def test_no_kernel_is_compiled_while_readings_wait(grouped: str, groups: str) -> None:
    command = [sys.executable, "-c", READY % (grouped, groups)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "{}\n"


def test_what_has_changed_of_the_meaning_of_a_state() -> None:
    model = base_model()
    old = state_meaning(model, EngineConfig())
    assert schema_difference(old, state_meaning(model, EngineConfig(slots=7))) == []
    new = state_meaning(model, EngineConfig(timezone="Asia/Tokyo"))
    assert schema_difference(old, new) == ["engine.timezone UTC -> Asia/Tokyo"]
    assert schema_difference({}, new) == [], "a snapshot that tells nothing"
    other = {**old, "model_version": "7", "weights": "abc"}
    assert schema_difference(old, other) == [f"model_version {old['model_version']} -> 7"]
    assert schema_difference(old, {**old, "weights": "b"}) == [f"weights {old['weights']} -> b"]
