"""The built wheel, used from another directory."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    for name in filter(None, names):
        if (REPO / name).is_file() and not name.startswith(("tests/", "docs/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((REPO / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), "."],
        cwd=source,
        check=True,
        timeout=250,
    )
    (built,) = folder.glob("titans_stream-*.whl")
    return built


def test_the_wheel_holds_the_package_and_its_assets_only(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    roots = {name.split("/")[0] for name in names}
    assert {root for root in roots if not root.endswith(".dist-info")} == {"titans_stream"}
    for asset in ("base/model.safetensors", "base/model.json", "demo/live.yaml"):
        assert f"titans_stream/assets/{asset}" in names
    assert "titans_stream/py.typed" in names
    packaged = {name for name in names if name.endswith(".py")}
    sources = {str(path.relative_to(REPO)) for path in (REPO / "titans_stream").rglob("*.py")}
    assert packaged == sources


def test_the_wheel_works_from_another_directory(wheel: Path, tmp_path: Path) -> None:
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    zipfile.ZipFile(wheel).extractall(site)
    rows = "\n".join(f"{20 + i % 7}" for i in range(300))
    (work / "data.csv").write_text("pressure\n" + rows + "\n", encoding="utf-8")
    code = (
        "import sys, titans_stream, titans_stream.cli as cli;"
        f"assert titans_stream.__file__.startswith({str(site)!r}), titans_stream.__file__;"
        "sys.exit(cli.main(['score', 'data.csv', '--out', 'scores.csv', '--quiet']))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=work,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = (work / "scores.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 301
    assert lines[0].startswith("timestamp,series_id,value,score,p_value")
