"""Downloads, from a real server on the loopback interface that misbehaves in the ways that servers do."""

from __future__ import annotations

import gzip
import hashlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fittingroom.data.download import download
from fittingroom.errors import DataMissing, FittingRoomError

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves `content` under any path, and does with it what the path's first part says."""

    def __init__(self) -> None:
        self.ranges: list[str | None] = []
        self.over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                outer.ranges.append(self.headers.get("Range"))
                getattr(outer, self.path.split("/")[1])(self)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def url(self, behaviour: str) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}/{behaviour}/file"

    def answer(self, handler: BaseHTTPRequestHandler, content: bytes, *, ranges: bool = True, stop_after: int | None = None) -> None:
        asked = handler.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and ranges else 0
        if start >= len(content):
            handler.send_error(416)
            return
        handler.send_response(206 if asked and ranges else 200)
        if asked and ranges:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        end = len(content) if stop_after is None else start + stop_after
        handler.wfile.write(content[start:end])

    def good(self, handler: BaseHTTPRequestHandler) -> None:
        self.answer(handler, CONTENT)

    def no_ranges(self, handler: BaseHTTPRequestHandler) -> None:
        self.answer(handler, CONTENT, ranges=False)

    def breaks_off(self, handler: BaseHTTPRequestHandler) -> None:
        self.answer(handler, CONTENT, stop_after=200_000)

    def breaks_off_without_ranges(self, handler: BaseHTTPRequestHandler) -> None:
        self.answer(handler, CONTENT, ranges=False, stop_after=200_000)

    def wrong(self, handler: BaseHTTPRequestHandler) -> None:
        self.answer(handler, b"<html>log in to the network of this hotel</html>")

    def anew(self, handler: BaseHTTPRequestHandler) -> None:
        self.answer(handler, gzip.compress(CONTENT, 9))

    def endless(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(CONTENT)
        except OSError:
            pass

    def other_range(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(206)
        handler.send_header("Content-Range", "bytes 0-99/100")
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(bytes(100))

    def missing(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_error(404)

    def overloaded(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_error(503)

    def silent(self, handler: BaseHTTPRequestHandler) -> None:
        self.over.wait(60)

    def rubbish(self, handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"this is not HTTP\r\n\r\n")

    def slow(self, handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.3)
        self.answer(handler, CONTENT)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.over.set()
    server.http.shutdown()
    server.http.server_close()


Get = Callable[..., Path]


@pytest.fixture
def get(server: Server, tmp_path: Path) -> Get:
    def fetch(*behaviours: str, **options: object) -> Path:
        timeout = 1.0 if "silent" in behaviours else 60.0
        settings: dict[str, object] = {"sha256": SHA256, "size": len(CONTENT), "timeout": timeout, "pause": 0.01} | options
        return download([server.url(name) for name in behaviours], tmp_path / "deep" / "er" / "file", **settings)  # type: ignore[arg-type]

    return fetch


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize("behaviour", ["good", "no_ranges", "breaks_off"])
def test_arrives_whole(get: Get, tmp_path: Path, behaviour: str) -> None:
    assert get(behaviour).read_bytes() == CONTENT
    assert left(tmp_path) == ["file"]


def test_asks_for_the_rest_alone(get: Get, server: Server) -> None:
    get("breaks_off")
    assert server.ranges == [None, "bytes=200000-", "bytes=400000-"]


def test_a_later_call_goes_on(get: Get, server: Server, tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "file.part").write_bytes(CONTENT[:300_000])
    assert get("good").read_bytes() == CONTENT
    assert server.ranges == ["bytes=300000-"]


def test_a_finished_part_needs_no_network(get: Get, server: Server, tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "file.part").write_bytes(CONTENT)
    assert get("missing").read_bytes() == CONTENT
    assert server.ranges == []


@pytest.mark.parametrize("part", [b"something else", b"x" * len(CONTENT), b"x" * (len(CONTENT) + 5)])
def test_a_part_of_something_else_does_no_harm(get: Get, tmp_path: Path, part: bytes) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "file.part").write_bytes(part)
    assert get("good", "good").read_bytes() == CONTENT
    assert left(tmp_path) == ["file"]


@pytest.mark.parametrize("bad", ["wrong", "missing", "overloaded", "silent", "rubbish", "endless", "breaks_off_without_ranges"])
def test_the_next_mirror_is_tried(get: Get, tmp_path: Path, bad: str) -> None:
    assert get(bad, "good", attempts=3 if bad == "silent" else 2).read_bytes() == CONTENT
    assert left(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("wrong", "sent other bytes than published"),
        ("missing", "404 Not Found"),
        ("overloaded", "503"),
        ("silent", "no answer in time"),
        ("rubbish", "not HTTP"),
        ("endless", "more than was published"),
    ],
)
def test_says_why_and_leaves_nothing(get: Get, tmp_path: Path, bad: str, reason: str) -> None:
    with pytest.raises(DataMissing, match=f"file could not be downloaded .*{reason}") as caught:
        get(bad, attempts=2)
    assert "\n" not in str(caught.value)
    assert left(tmp_path) == []


def test_what_arrived_is_kept_for_the_next_attempt(get: Get, tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="broke off after 200,000 of 512,000 bytes"):
        get("breaks_off_without_ranges", attempts=2)
    assert left(tmp_path) == ["file.part"]
    assert get("good").read_bytes() == CONTENT


def test_a_server_that_answers_another_range(get: Get, tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "file.part").write_bytes(CONTENT[:1000])
    with pytest.raises(DataMissing):
        get("other_range", attempts=2)
    assert get("good").read_bytes() == CONTENT


def test_no_network(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        port = taken.getsockname()[1]
        with pytest.raises(DataMissing, match=rf"127\.0\.0\.1:{port}: Connection refused"):
            download([f"http://127.0.0.1:{port}/file"], tmp_path / "file", sha256=SHA256, pause=3600)  # asked once, so there is no pause
    assert left(tmp_path) == []


def test_files_that_were_compressed_anew_are_accepted_by_their_content(get: Get) -> None:
    assert gzip.decompress(get("anew", sha256="0" * 64, raw_sha256=SHA256).read_bytes()) == CONTENT
    with pytest.raises(DataMissing, match="other bytes"):
        get("good", sha256="0" * 64, raw_sha256="1" * 64)


def test_a_verified_file_is_not_fetched_again_and_a_damaged_one_is(get: Get, server: Server) -> None:
    path = get("good")
    get("missing")
    assert len(server.ranges) == 1
    path.write_bytes(CONTENT[:-1])
    assert get("good").read_bytes() == CONTENT
    assert len(server.ranges) == 2


def test_a_damaged_file_stays_where_no_better_one_is_to_be_had(get: Get, tmp_path: Path) -> None:
    path = get("good")
    path.write_bytes(b"mine")
    with pytest.raises(DataMissing):
        get("missing")
    assert path.read_bytes() == b"mine"


def test_progress(get: Get) -> None:
    seen: list[tuple[int, int]] = []
    get("breaks_off", progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where a folder is needed")
    with pytest.raises(FittingRoomError, match="cannot write"):
        download([server.url("good")], tmp_path / "file" / "x")


CHILD = """
import sys
from pathlib import Path
from fittingroom.data.download import download
download([sys.argv[1]], Path(sys.argv[2]), sha256=sys.argv[3])
"""


FULL = """
import resource, sys
from pathlib import Path
from fittingroom.data.download import download
from fittingroom.errors import FittingRoomError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    download([sys.argv[1]], Path(sys.argv[2]))
except FittingRoomError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits there")
def test_a_disk_that_takes_no_more(server: Server, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", FULL, server.url("good"), str(tmp_path / "file")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=240)
    assert done.stdout.startswith(f"cannot write {tmp_path / 'file'}: ")
    assert done.stderr == ""
    assert left(tmp_path) == []


def test_processes_that_want_the_same_file_share_one_download(server: Server, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", CHILD, server.url("slow"), str(tmp_path / "file"), SHA256]
    children = [subprocess.Popen(arguments) for _ in range(3)]
    assert [child.wait(240) for child in children] == [0, 0, 0]
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert left(tmp_path) == ["file"]
    assert len(server.ranges) == 1


def test_threads_that_want_the_same_file(get: Get, tmp_path: Path) -> None:
    threads = [threading.Thread(target=get, args=("slow",), kwargs={"timeout": 60}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "deep" / "er" / "file").read_bytes() == CONTENT
    assert left(tmp_path) == ["file"]
