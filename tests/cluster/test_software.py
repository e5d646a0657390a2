"""Nodes that would compute something else are told from those that would not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from fittingroom.cluster import software as room
from fittingroom.cluster.scratch import scratch
from fittingroom.cluster.software import difference, software
from fittingroom.runs import Run


def test_versions_of_this_machine() -> None:
    assert software()["torch"] == metadata.version("torch").split("+")[0]
    assert difference(software(), software()) == ""


def test_what_differs_is_named() -> None:
    there = {**software(), "torch": "1.0", "code": "abc"}
    assert difference(there, software()) == f"torch 1.0 there, {software()['torch']} here, code abc there, {software()['code']} here"
    assert difference({}, {"torch": "2.0"}) == "torch none there, 2.0 here"


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("seeds.py", True),
        ("native/kernels.c", True),
        ("train/loop.py", True),
        ("workers/work.py", True),
        ("report/page.py", False),
        ("cli/main.py", False),
    ],
)
def test_the_code_that_counts(file: str, counts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run passes through, and not the pages and commands, which stay with the caller."""
    copy = tmp_path / "fittingroom"
    shutil.copytree(room.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    monkeypatch.setattr(room, "PACKAGE", copy)
    assert room._code() == software()["code"]
    (copy / file).write_text((copy / file).read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert (room._code() != software()["code"]) == counts


def test_it_is_found_out_before_anything_heavy_is_loaded() -> None:
    code = "import sys, fittingroom.cluster.node, fittingroom.cluster; sys.exit(bool({'torch', 'numpy', 'ray'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_killed_processes_left_goes(tmp_path: Path) -> None:
    (tmp_path / "fittingroom-node-left").mkdir()
    (tmp_path / "fittingroom-node-left" / ".lock").touch()
    (tmp_path / "fittingroom-other-left").mkdir()
    with scratch("node", tmp_path) as one:
        assert Run(one).locked
        (one / "run").mkdir()
        with scratch("node", tmp_path) as other:
            assert sorted(path.name for path in tmp_path.iterdir()) == sorted([one.name, other.name, "fittingroom-other-left"])
        assert (one / "run").is_dir(), "who is at work is left alone"
    assert [path.name for path in tmp_path.iterdir()] == ["fittingroom-other-left"]
