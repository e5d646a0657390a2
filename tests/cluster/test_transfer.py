"""What comes from elsewhere is written whole, in the right order, and nowhere but into its folder."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fittingroom.cluster.transfer import Followed, Parcel, write_into
from fittingroom.errors import RunError

names = st.from_regex(r"([A-Za-z0-9_][\w.-]{0,5}/)?[A-Za-z0-9_][\w.-]{0,5}", fullmatch=True).filter(str.isascii)
values = st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.floats(allow_nan=False, allow_infinity=False)))

OUTSIDE = [
    "../elsewhere",
    "/etc/passwd",
    "checkpoints/../../elsewhere",
    "a/b/c",
    "",
    ".",
    "..",
    "./here",
    ".lock",
    "checkpoints/.hidden",
    "checkpoints//twice",
    "C:\\elsewhere",
    "..\\elsewhere",
    "a\nb",
    "a\0b",
    "name ",
    "ünicode",
]


@given(values, st.dictionaries(names, st.binary()), st.lists(names))
def test_what_is_packed_comes_out(message: dict[str, Any], files: dict[str, bytes], removed: list[str]) -> None:
    parcel = Parcel(message, files, removed)
    assert Parcel.from_bytes(parcel.to_bytes()) == parcel


@given(st.binary(max_size=200))
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises(RunError, match="cannot be read"):
        Parcel.from_bytes(content)


@pytest.mark.parametrize("cut", [1, 9, -1])
def test_a_part_is_refused(cut: int) -> None:
    whole = Parcel({"event": "epoch"}, {"metrics.jsonl": b"{}\n"}).to_bytes()
    with pytest.raises(RunError, match="cannot be read"):
        Parcel.from_bytes(whole[:cut])
    with pytest.raises(RunError, match="cannot be read"):
        Parcel.from_bytes(whole + b"more")


@pytest.mark.parametrize("sizes", [{"a": -1, "b": 2}, {"a": "1"}, {"a": None}, [1], {"a": 0.5, "b": 0.5}])
def test_false_sizes_are_refused(sizes: Any) -> None:
    head = json.dumps({"message": {}, "sizes": sizes, "removed": []}).encode()
    with pytest.raises(RunError, match="cannot be read"):
        Parcel.from_bytes(struct.pack("<Q", len(head)) + head + b"x")


@pytest.mark.parametrize("name", OUTSIDE)
def test_nothing_is_written_outside_the_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "run"
    folder.mkdir(parents=True)
    (tmp_path / "runs" / "elsewhere").write_text("mine")
    for parcel in (Parcel({}, {"good": b"", name: b"bad"}), Parcel({}, {}, [name])):
        with pytest.raises(RunError, match="no file of a run has such a name"):
            Parcel.from_bytes(parcel.to_bytes())
        with pytest.raises(RunError, match="no file of a run has such a name"):
            write_into(folder, parcel.files, parcel.removed)
    assert list(folder.iterdir()) == [], "not even the good one"
    assert (tmp_path / "runs" / "elsewhere").read_text() == "mine"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    folder, outside = tmp_path / "run", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (folder / "checkpoints").symlink_to(outside)
    (outside / "mine").write_text("mine")
    (folder / "weights.safetensors").symlink_to(outside / "mine")
    for name in ("checkpoints/mine", "weights.safetensors"):
        for files, removed in (({name: b"bad"}, []), ({}, [name])):
            with pytest.raises(RunError, match="is a link"):
                write_into(folder, files, removed)
    assert (outside / "mine").read_text() == "mine"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_follows_another(tmp_path: Path) -> None:
    """New, changed, replaced by as many bytes, appended to, removed: after each step both hold the same."""
    source, copy = tmp_path / "source", tmp_path / "copy"
    followed = Followed(source)

    def follow() -> set[str]:
        files, removed = followed.changes()
        write_into(copy, files, removed)
        assert contents(copy) == contents(source)
        return {*files, *removed}

    write_into(source, {"recipe.toml": b"seed = 0\n", "checkpoints/epoch-000001.safetensors": b"1" * 1000, "metrics.jsonl": b"{}\n"})
    assert follow() == {"recipe.toml", "checkpoints/epoch-000001.safetensors", "metrics.jsonl"}
    assert follow() == set()
    with open(source / "metrics.jsonl", "ab") as file:
        file.write(b"{}\n")
    write_into(source, {"checkpoints/epoch-000001.safetensors": b"2" * 1000})
    assert follow() == {"metrics.jsonl", "checkpoints/epoch-000001.safetensors"}
    write_into(source, {"checkpoints/epoch-000002.safetensors": b"2"}, ["checkpoints/epoch-000001.safetensors"])
    assert follow() == {"checkpoints/epoch-000001.safetensors", "checkpoints/epoch-000002.safetensors"}
    write_into(source, {}, ["never-there"])
    assert follow() == set()


def test_locks_and_halves_stay_where_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write_into(folder, {"recipe.toml": b"seed = 0\n"})
    (folder / ".lock").write_text("process 1")
    (folder / ".metrics.jsonl.abc.temporary").write_text("half")
    for foreign in (".DS_Store", "notes (1).txt", "über.txt"):
        (folder / foreign).write_text("somebody's own")
    assert Followed.everything(folder) == {"recipe.toml": b"seed = 0\n"}
    assert Followed(tmp_path / "none").changes() == ({}, [])


def test_the_state_comes_last(tmp_path: Path) -> None:
    """Cut off anywhere, a folder never says of itself more than it holds."""
    folder = tmp_path / "run"
    files = {"state.json": b"{}", "evaluation.json": b"{}", "weights.safetensors": b"w", "predictions/test.safetensors": b"p"}
    write_into(folder, files)
    times = {name: (folder / name).stat().st_mtime_ns for name in files}
    assert times["weights.safetensors"] <= times["evaluation.json"] <= times["state.json"]
    assert times["predictions/test.safetensors"] <= times["evaluation.json"]
