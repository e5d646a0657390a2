"""Files are written whole or not at all, and what is said when they cannot be."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fittingroom import files
from fittingroom.errors import FittingRoomError
from tests.processes import Child, as_someone_else, may_write_everywhere

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


def test_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file.txt"
    files.write_text(path, "old")
    files.write_text(path, "neu ä\n")
    assert path.read_bytes() == "neu ä\n".encode()
    assert [inside.name for inside in path.parent.iterdir()] == ["file.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_value_that_is_not_json_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}


@settings(max_examples=50)
@given(st.lists(st.dictionaries(names, json_values, max_size=3), max_size=4), st.data())
def test_lines_survive_a_crash_while_the_last_was_written(
    tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, object]], data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "lines.jsonl"
    path.write_bytes(b"")
    for value in values:
        files.append_line(path, value)
    content = path.read_bytes()
    assert list(files.read_lines(path)) == values
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    whole = content[:cut].count(b"\n")
    assert list(files.read_lines(path)) in (values[:whole], values[: whole + 1])  # a line that lacks its end alone is whole


def test_a_line_damaged_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text('{"a": 1}\n{"a": \n{"a": 3}\n')
    with pytest.raises(FittingRoomError, match="line 2 is damaged"):
        list(files.read_lines(path))
    assert list(files.read_lines(tmp_path / "none")) == []


def test_temporaries_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    def write_and_die() -> None:
        os.replace = lambda *_: os._exit(9)  # type: ignore[assignment]
        files.write_text(tmp_path / "deep" / "file.txt", "never")

    Child(write_and_die).wait()
    (left,) = (tmp_path / "deep").iterdir()
    assert files.is_temporary(left)
    files.write_text(tmp_path / ".hidden", "kept")
    files.remove_temporaries(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [".hidden"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EROFS, "choose another folder"),
        (errno.EACCES, "that you may write to"),
        (errno.EIO, "error"),
    ],
)
def test_errors_of_the_system_are_explained(number: int, remedy: str) -> None:
    error = files.explain(OSError(number, os.strerror(number)), Path("some/file"))
    assert str(error).startswith("cannot write some/file: ")
    assert remedy in str(error)


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FittingRoomError, match="a file stands where a folder is needed"):
        files.write_text(tmp_path / "file" / "below", "x")
    with pytest.raises(FittingRoomError, match="too long"):
        files.write_text(tmp_path / ("x" * 300), "x")


def test_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o555)

    def write() -> None:
        if may_write_everywhere():
            as_someone_else()
        files.write_text(folder / "file", "x")

    child = Child(write)
    assert child.wait() == 1
    assert "permission denied; choose a folder that you may write to" in child.errors
    assert list(folder.iterdir()) == []
