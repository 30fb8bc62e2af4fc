"""Downloads, against a server on this machine."""

import hashlib
import http.server
import socket
import threading

import pytest

from ppadapt.data import DataError
from ppadapt.data.download import download

PAYLOAD = bytes(range(256)) * 4000
MD5 = hashlib.md5(PAYLOAD).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.ranges.append(wanted)
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        start = int(wanted[6:-1]) if wanted and server.resumes else 0
        if start >= len(PAYLOAD):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(PAYLOAD) - start))
        self.end_headers()
        end = server.cuts.pop(0) if server.cuts else len(PAYLOAD)
        self.wfile.write(PAYLOAD[start:end])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.ranges, server.cuts, server.resumes = [], [], True
    server.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_cut_connection_is_resumed_where_it_ended(server, tmp_path):
    server.cuts = [300_000, 700_000]
    path = download([server.url + "a.bin"], tmp_path / "new" / "a.bin", MD5, pause=0)
    assert path.read_bytes() == PAYLOAD
    assert server.ranges == [None, "bytes=300000-", "bytes=700000-"]
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]


def test_a_part_of_an_earlier_run_is_resumed(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(PAYLOAD[:1000])
    download([server.url + "a.bin"], tmp_path / "a.bin", MD5, pause=0)
    assert server.ranges == ["bytes=1000-"]
    assert (tmp_path / "a.bin").read_bytes() == PAYLOAD


@pytest.mark.parametrize("part", [PAYLOAD, PAYLOAD + b"more", b"wrong" * 10])
def test_a_complete_or_wrong_part_ends_well(server, tmp_path, part):
    (tmp_path / "a.bin.part").write_bytes(part)
    assert download([server.url + "a.bin"], tmp_path / "a.bin", MD5, pause=0).read_bytes() == PAYLOAD


def test_a_server_that_cannot_resume_starts_again(server, tmp_path):
    server.resumes = False
    (tmp_path / "a.bin.part").write_bytes(PAYLOAD[:1000])
    assert download([server.url + "a.bin"], tmp_path / "a.bin", MD5, pause=0).read_bytes() == PAYLOAD


def test_the_second_mirror_serves_when_the_first_lacks_the_file(server, tmp_path):
    urls = [server.url + "missing.bin", server.url + "a.bin"]
    assert download(urls, tmp_path / "a.bin", MD5, pause=0).exists()
    assert len(server.ranges) == 2  # a 404 is not tried again


def test_a_wrong_checksum_leaves_no_file(server, tmp_path):
    with pytest.raises(DataError, match=f"checksum {MD5} instead of {'0' * 32}"):
        download([server.url + "a.bin"], tmp_path / "a.bin", "0" * 32, retries=2, pause=0)
    assert list(tmp_path.iterdir()) == []


def test_without_network_one_message_says_what_to_do(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    urls = [f"http://127.0.0.1:{port}/x/a.bin", f"http://127.0.0.1:{port}/y/a.bin"]
    with pytest.raises(DataError) as error:
        download(urls, tmp_path / "a.bin", MD5, retries=2, pause=0)
    for part in (*urls, str(tmp_path / "a.bin"), "refused"):
        assert part in str(error.value)


def test_what_exists_is_not_touched(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"mine")
    assert download(["http://127.0.0.1:9/a.bin"], tmp_path / "a.bin", MD5).read_bytes() == b"mine"
