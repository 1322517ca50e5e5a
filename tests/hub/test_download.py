import hashlib
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from difface_diffusers.hub.download import download


CONTENT = bytes(range(256)) * 5000


class FileServer(ThreadingHTTPServer):
    """Serves its content under any name but "nothing"; records the ranges asked for and breaks off where it is told to."""

    def __init__(self, content=CONTENT):
        super().__init__(("127.0.0.1", 0), FileHandler)
        self.content = content
        self.url = f"http://127.0.0.1:{self.server_port}/release/weights.pth"
        self.knows_ranges = True
        self.break_after = None
        self.ranges = []


class FileHandler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        wanted = self.headers["Range"]
        self.server.ranges.append(wanted)
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.server.knows_ranges else 0
        content = self.server.content
        if "nothing" in self.path:
            self.send_error(404)
            return
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : self.server.break_after])


@contextmanager
def serving(server):
    """Let a server answer."""
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def server():
    with serving(FileServer()) as server:
        yield server


def test_fetches_a_file_once_and_shows_progress(server, tmp_path, capsys):
    path = download(server.url, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "weights.pth"
    assert path.read_bytes() == CONTENT
    assert "weights.pth: 100%" in capsys.readouterr().err
    assert download(server.url, path.parent) == path
    assert server.ranges == [None]


def test_goes_on_after_an_interruption(server, tmp_path):
    server.break_after = 1_000_000
    with pytest.raises(ConnectionError, match=r"weights\.pth broke off after 1000000 of 1280000 bytes; run the same"):
        download(server.url, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pth.part"]
    server.break_after = None
    assert download(server.url, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pth"]


def test_starts_again_where_the_server_knows_no_ranges(server, tmp_path):
    (tmp_path / "weights.pth.part").write_bytes(b"other" * 1000)
    server.knows_ranges = False
    assert download(server.url, tmp_path).read_bytes() == CONTENT


def test_starts_again_where_the_part_is_longer_than_the_file(server, tmp_path):
    (tmp_path / "weights.pth.part").write_bytes(b"x" * (len(CONTENT) + 1))
    assert download(server.url, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT) + 1}-", None]


def test_names_what_cannot_be_fetched(server, tmp_path):
    url = server.url.replace("weights", "nothing")
    with pytest.raises(ValueError, match=rf"{re.escape(url)} cannot be fetched: HTTP Error 404"):
        download(url, tmp_path)
    assert not list(tmp_path.iterdir())


def test_names_a_server_that_cannot_be_reached(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(ConnectionError, match=rf"{re.escape(server.url)} cannot be reached"):
        download(server.url, tmp_path)


def test_a_file_of_another_hash_is_deleted(server, tmp_path):
    right = hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(ValueError, match=f"its sha256 is {right}, not abc; it was deleted"):
        download(server.url, tmp_path, sha256="abc")
    assert list(tmp_path.iterdir()) == []
    assert download(server.url, tmp_path, sha256=right).read_bytes() == CONTENT
