"""Writing files so that a crash leaves the old one or the new one, never a half."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fittingroom.errors import FittingRoomError

__all__ = [
    "append_line",
    "explain",
    "is_temporary",
    "read_lines",
    "remove_temporaries",
    "sync_folder",
    "write_bytes",
    "write_json",
    "write_text",
]


TEMPORARY = ".temporary"


def explain(error: OSError, path: Path) -> FittingRoomError:
    """Turn an operating-system error on ``path`` into the one line that a person can act on."""
    what = {
        errno.ENOSPC: "the disk is full; free some space and repeat the command",
        errno.EDQUOT: "the disk quota is used up; free some space and repeat the command",
        errno.EROFS: "the file system is read-only; choose another folder",
        errno.EACCES: "permission denied; choose a folder that you may write to",
        errno.EPERM: "permission denied; choose a folder that you may write to",
        errno.ENOTDIR: "a file stands where a folder is needed; choose another name",
        errno.EEXIST: "a file stands where a folder is needed; choose another name",
        errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    }.get(error.errno or 0, error.strerror or str(error))
    return FittingRoomError(f"cannot write {path}: {what}")


def write_bytes(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content`` in one step: temporary file, fsync, rename.

    Raises:
        FittingRoomError: the folder cannot be written, or the disk is full. Nothing is left behind.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=TEMPORARY, dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
        sync_folder(path.parent)
    except OSError as error:
        raise explain(error, path) from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def remove_temporaries(folder: Path) -> None:
    """Remove what a process left behind under ``folder`` that was killed while it wrote; to be called by the folder's one owner."""
    for path in folder.rglob(f".*{TEMPORARY}"):
        path.unlink(missing_ok=True)


def is_temporary(path: Path) -> bool:
    """Whether a file is one that `write_bytes` had not finished."""
    return path.name.startswith(".") and path.name.endswith(TEMPORARY)


def sync_folder(folder: Path) -> None:
    """Make a rename inside ``folder`` durable (a no-op where folders cannot be opened)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for UTF-8 text."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` for a JSON value, indented, with a last newline; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def append_line(path: Path, value: Any) -> None:
    """Append one JSON value as one line and make it durable."""
    line = json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        with open(path, "ab") as file:
            file.write(line.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise explain(error, path) from error


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of ``path``, one a line; a torn last line (a crash while writing) is skipped.

    Raises:
        FittingRoomError: a line before the last cannot be read.
    """
    if not path.exists():
        return
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                return
            raise FittingRoomError(f"{path}: line {number} is damaged; restore the file, or make it anew") from error
        if isinstance(value, dict):
            yield value
