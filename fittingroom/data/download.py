"""Downloads that resume, are verified, and appear under their name only when they are whole."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from fittingroom.errors import DataMissing
from fittingroom.files import explain, sync_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Progress", "download", "matches"]

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes expected (0 where unknown)."""

CHUNK = 2**17
MOST = 2**32
"""Bytes accepted of a file whose size is not known, and bytes decompressed for a checksum."""
USER_AGENT = "fittingroom"


class _BrokenOffError(Exception):
    """A transfer that ended early; what arrived is kept, and the same mirror may be asked for the rest."""


class _NoUseError(Exception):
    """A mirror that cannot be reached or does not have the file."""


def download(
    urls: Sequence[str],
    target: Path,
    *,
    sha256: str | None = None,
    raw_sha256: str | None = None,
    size: int | None = None,
    progress: Progress | None = None,
    timeout: float = 20.0,
    attempts: int = 3,
    pause: float = 1.0,
) -> Path:
    """Fetch a file from the first of several mirrors that has it, unless it is there and verified already.

    What has arrived is kept in ``<target>.part`` when a transfer breaks off, and the next attempt, in this process or a
    later one, asks for the rest alone. Of several processes that want the same file, one downloads and the others wait for it.

    Args:
        urls: mirrors, in the order in which they are tried.
        target: where the file is to stand.
        sha256: of the file, in hexadecimal.
        raw_sha256: of the file decompressed, for mirrors that compressed the same bytes anew.
        size: of the file in bytes, as published; a mirror may send up to twice as much.
        progress: called after each piece.
        timeout: seconds without a byte after which an attempt is given up.
        attempts: how often a mirror is asked in a row without a byte more than before.
        pause: seconds before the second attempt; doubled for each further one.

    Returns:
        ``target``.

    Raises:
        DataMissing: no mirror could be reached, or none sent the file that the checksums are of; says what each did.
        FittingRoomError: ``target`` cannot be written.
    """
    if _is_there(target, sha256, raw_sha256):
        return target
    reasons: list[str] = []
    with _part(target) as part:
        if _is_there(target, sha256, raw_sha256):  # another process was faster
            _discard(part)
            return target
        for url in urls:
            try:
                _transfer(url, part, size, progress, timeout, attempts, pause)
            except (_BrokenOffError, _NoUseError) as error:
                reasons.append(f"{_host(url)}: {error}")
                continue
            if matches(Path(part.name), sha256, raw_sha256):
                _publish(part, target)
                return target
            part.truncate(0)
            reasons.append(f"{_host(url)}: sent other bytes than published")
        if not part.seek(0, os.SEEK_END):
            _discard(part)
    raise DataMissing(f"{target.name} could not be downloaded ({'; '.join(reasons) or 'no mirror is known'})")


def matches(path: Path, sha256: str | None, raw_sha256: str | None = None) -> bool:
    """Whether a file's content has the first checksum, or its content decompressed the second; True where neither is known."""
    if sha256 is None and raw_sha256 is None:
        return True
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
            return True
    return raw_sha256 is not None and _decompressed_sha256(path) == raw_sha256


def _is_there(target: Path, sha256: str | None, raw_sha256: str | None) -> bool:
    try:
        return target.is_file() and matches(target, sha256, raw_sha256)
    except OSError as error:
        raise explain(error, target) from error


def _decompressed_sha256(path: Path) -> str | None:
    digest, total = hashlib.sha256(), 0
    try:
        with gzip.open(path) as stream:
            while (piece := stream.read(CHUNK)) and total < MOST:
                digest.update(piece)
                total += len(piece)
    except (OSError, EOFError, zlib.error):
        return None
    return digest.hexdigest()


@contextmanager
def _part(target: Path) -> Iterator[IO[bytes]]:
    """Open the unfinished file, this process alone; its writing errors come out as one line."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = _locked(target.with_name(f"{target.name}.part"))
    except OSError as error:
        raise explain(error, target) from error
    with part:
        try:
            yield part
        except OSError as error:
            _discard(part)  # above all on a full disk, which it helped to fill
            raise explain(error, target) from error


def _locked(path: Path) -> IO[bytes]:
    if fcntl is None:
        return path.with_name(f"{path.name}-{os.getpid()}").open("a+b", buffering=0)
    while True:
        part = path.open("a+b", buffering=0)
        try:
            fcntl.flock(part, fcntl.LOCK_EX)
            # Whoever held the lock before may have renamed or removed the file that this handle is of.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(part.fileno()), path.stat()):
                    return part
        except BaseException:
            part.close()
            raise
        part.close()


def _discard(part: IO[bytes]) -> None:
    if fcntl is None:
        part.close()
    Path(part.name).unlink(missing_ok=True)


def _publish(part: IO[bytes], target: Path) -> None:
    os.fsync(part.fileno())
    if fcntl is None:
        part.close()
    Path(part.name).replace(target)  # while the lock is held, so that no one appends to it
    sync_folder(target.parent)


def _transfer(url: str, part: IO[bytes], size: int | None, progress: Progress | None, timeout: float, attempts: int, pause: float) -> None:
    """Fetch what is missing of ``part``, again and again as long as attempts bring bytes."""
    most, failures = part.seek(0, os.SEEK_END), 0
    if size is not None and most == size:
        return
    while True:
        try:
            return _fetch_rest(url, part, size, progress, timeout)
        except _BrokenOffError:
            reached = part.seek(0, os.SEEK_END)
            failures = 0 if reached > most else failures + 1
            most = max(most, reached)
            if failures >= attempts:
                raise
            time.sleep(pause * 2 ** max(0, failures - 1))


def _fetch_rest(url: str, part: IO[bytes], size: int | None, progress: Progress | None, timeout: float) -> None:
    start = part.seek(0, os.SEEK_END)
    with _request(url, part, start, timeout) as response:
        if response.status == 206:
            if not re.match(rf"bytes {start}-", response.headers.get("Content-Range", "")):
                part.truncate(0)
                raise _BrokenOffError("answered with another range than asked for")
        else:
            part.truncate(0)
            start = 0
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else None
        limit = 2 * size if size is not None else MOST
        done = start
        while piece := _receive(response):
            done += len(piece)
            if done > limit:
                part.truncate(0)
                raise _NoUseError("sends more than was published")
            part.write(piece)
            if progress is not None:
                progress(done, total or size or 0)
        if total is not None and done < total:
            raise _BrokenOffError(f"broke off after {done:,} of {total:,} bytes")


@contextmanager
def _request(url: str, part: IO[bytes], start: int, timeout: float) -> Iterator[http.client.HTTPResponse]:
    headers = {"User-Agent": USER_AGENT} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:  # what we have does not begin this file
                part.truncate(0)
            if error.code in (408, 416, 429) or error.code >= 500:
                raise _BrokenOffError(f"answered {error.code} {error.reason}") from None
            raise _NoUseError(f"answered {error.code} {error.reason}") from None
    except urllib.error.URLError as error:  # no connection: asking again at once would not help
        raise _NoUseError(_reason(error)) from None
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise _BrokenOffError(_reason(error)) from None
    with response:
        yield response


def _receive(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK)
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise _BrokenOffError(_reason(error)) from None


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return " ".join(str(cause).split())[:100] or type(cause).__name__


def _host(url: str) -> str:
    return url.split("/")[2] if url.count("/") > 2 else url
