"""What goes between the caller and a node: a message in JSON with files as plain bytes, and how a folder follows another one.

What arrives is never believed: a name that leads out of the folder, or to anything but an ordinary file in it, is refused before
anything is written.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fittingroom.errors import RunError
from fittingroom.files import is_temporary, write_bytes

__all__ = ["Followed", "Parcel", "write_into"]

LENGTH = struct.Struct("<Q")
# Of a file in a run folder: at most one folder deep, nothing hidden, no word of a path that means another place.
NAME = re.compile(r"(?:\w[\w.-]*/)?\w[\w.-]*", re.ASCII)
# Written after all others: what they say holds once everything else is there.
LAST = ("evaluation.json", "state.json")


@dataclass(frozen=True)
class Parcel:
    """A message with files.

    Attributes:
        message: plain values.
        files: contents by name, ``/`` between folders.
        removed: names of files that are gone.
    """

    message: Mapping[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)
    removed: Sequence[str] = ()

    def to_bytes(self) -> bytes:
        """Return the length of a head in eight bytes, the head in JSON, and the contents one after another."""
        sizes = {name: len(content) for name, content in self.files.items()}
        head = json.dumps({"message": self.message, "sizes": sizes, "removed": list(self.removed)}, allow_nan=False).encode()
        return b"".join([LENGTH.pack(len(head)), head, *self.files.values()])

    @classmethod
    def from_bytes(cls, content: bytes) -> Parcel:
        """Undo `to_bytes`.

        Raises:
            RunError: these are no such bytes, or a file in it has a name that no file of a run has.
        """
        try:
            (length,) = LENGTH.unpack_from(content)
            place = LENGTH.size + length
            head = json.loads(content[LENGTH.size : place])
            message, sizes, removed = dict(head["message"]), dict(head["sizes"]), list(head["removed"])
            if not all(isinstance(size, int) and size >= 0 for size in sizes.values()) or place + sum(sizes.values()) != len(content):
                raise ValueError("it is not as long as it says")
        except (struct.error, ValueError, KeyError, TypeError) as error:
            raise RunError(f"a node sent what cannot be read ({error}); is there something else at this address?") from None
        for name in (*sizes, *removed):
            _check(name)
        files = {}
        for name, size in sizes.items():
            files[name] = content[place : place + size]
            place += size
        return cls(message, files, removed)


class Followed:
    """A folder whose changes are told.

    Args:
        folder: it need not exist yet; what is in it now is known.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known = _stamps(folder)

    def changes(self) -> tuple[dict[str, bytes], list[str]]:
        """Return the contents of files that are new or changed since the last time, and the names of those that are gone."""
        now = _stamps(self.folder)
        files = {name: (self.folder / name).read_bytes() for name, stamp in now.items() if self._known.get(name) != stamp}
        removed = sorted(self._known.keys() - now.keys())
        self._known = now
        return files, removed

    @staticmethod
    def everything(folder: Path) -> dict[str, bytes]:
        """Return the contents of all files of a folder."""
        return {name: (folder / name).read_bytes() for name in _stamps(folder)}


def write_into(folder: Path, files: Mapping[str, bytes], removed: Sequence[str] = ()) -> None:
    """Write files into a folder, each in one step, and remove others; interrupted at any moment it leaves a run that can be gone on with.

    Raises:
        RunError: a name leads out of the folder.
        FittingRoomError: the folder cannot be written.
    """
    for name in (*files, *removed):
        _check(name)
        if (folder / name).is_symlink() or (folder / name).parent.is_symlink():
            raise RunError(f"{folder / name} is a link, and what comes from a node is not written to where it leads; remove it")
    for name in sorted(files, key=lambda name: (LAST.index(name) if name in LAST else -1, name)):
        write_bytes(folder / name, files[name])
    for name in removed:
        (folder / name).unlink(missing_ok=True)


def _check(name: object) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise RunError(f"a node sent a file named {str(name)[:80]!r}: no file of a run has such a name, and it is not written")


def _stamps(folder: Path) -> dict[str, tuple[int, int, int]]:
    """By name, what tells that a file is another one than before.

    A lock, what is being written, and what somebody else put there under a name that no file of a run has, are no part of a run.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if NAME.fullmatch(name) and not is_temporary(path) and path.is_file():
            seen = path.stat()
            found[name] = (seen.st_mtime_ns, seen.st_size, seen.st_ino)
    return found
