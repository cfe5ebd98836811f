# SPDX-License-Identifier: Apache-2.0
"""Whatever happens to a request whose client has stopped sending happens at once: it does not wait
for that client to go on. By each way on which a body comes (RELIABILITY C 1, 2 and 5)."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import http2, tls
from harness.client import Connection, CutError, chunked, request, wait_until
from harness.httpd import Httpd
from process import shop

Start = Callable[..., Httpd]
WHOLE = b"begun again"
BEGUN = WHOLE[:5]
# Way: what the client sends of its body before it stops, and the fields that announce it.
WAYS: dict[str, tuple[bytes, dict[str, str]]] = {
    "length": (BEGUN, {"Content-Length": "11"}),
    "chunked": (chunked(BEGUN)[:-5], {"Transfer-Encoding": "chunked"}),
    "tls": (BEGUN, {"Content-Length": "11"}),
    "expect": (b"", {"Content-Length": "11", "Expect": "100-continue"}),
    "expect-chunked": (b"", {"Transfer-Encoding": "chunked", "Expect": "100-continue"}),
    "http2": (BEGUN, {"Content-Length": "11"}),
    "http2-chunked": (BEGUN, {}),
    "http2-expect": (b"", {"Content-Length": "11", "Expect": "100-continue"}),
    "http2-blind": (BEGUN, {"Content-Length": "11"}),  # by an older httpd: no_pipes.c
}
each_way = pytest.mark.parametrize("way", WAYS)


class Upload:
    """Over HTTP/1.1: part of a body, and then nothing."""

    def __init__(self, address: tuple[str, int], target: str, way: str) -> None:
        body, fields = WAYS[way]
        self.way, self.rest = way, WHOLE[len(BEGUN) if body else 0 :]
        self.connection = Connection(address, deadline=30)
        if way == "tls":
            tls.encrypt(self.connection)
        self.connection.send(request("PUT", target, fields) + body)

    def status(self) -> int:
        """That of the next head, also an interim one."""
        self.head = self.connection.read_any_head()
        return self.head.status

    def go_on(self) -> bytes:
        """To the end of the response, of which the head was not read."""
        _, fields = WAYS[self.way]
        self.connection.send(chunked(self.rest) if "Transfer-Encoding" in fields else self.rest)
        return self.connection.read_response().body

    def block(self) -> bytes:
        if self.head.header("Transfer-Encoding"):
            return self.connection.read_chunk()
        return self.connection.read_exactly(4)

    def is_cut(self) -> bool:
        """Whether it ends before its end."""
        with pytest.raises((CutError, ConnectionError)):
            self.connection.read_body(self.head)
        return True

    def close(self) -> None:
        self.connection.close()


class Http2Upload:
    """The same over HTTP/2."""

    def __init__(self, address: tuple[str, int], target: str, way: str) -> None:
        body, fields = WAYS[way]
        self.rest = WHOLE[len(body) :]
        self.stream = http2.Stream(address)
        self.stream.begin("PUT", target, fields)
        if body:
            self.stream.send(body)

    def status(self) -> int:
        return self.stream.read_status()

    def go_on(self) -> bytes:
        self.stream.send(self.rest, is_last=True)
        assert self.status() == 200
        body = b""
        while data := self.block():
            body += data
        return body

    def block(self) -> bytes:
        return self.stream.read_data()

    def is_cut(self) -> bool:
        return self.stream.read_data() == b"" and self.stream.is_reset

    def close(self) -> None:
        self.stream.close()


@contextmanager
def stalled(server: Httpd, way: str, name: str, block: str = "") -> Iterator[Upload | Http2Upload]:
    """Its application waits for more than the client sends."""
    sent = len(BEGUN) if WAYS[way][0] else 0
    target = f"/reads_on?{sent}&{name}{block}"
    kind = Http2Upload if way.startswith("http2") else Upload
    upload = kind(server.address, target, way)
    try:
        wait_until((server.root / "files" / f"{name}.runs").exists, "its application reads on", 20)
        if "Expect" in WAYS[way][1] and not block:
            assert upload.status() == 100
        yield upload
    finally:
        upload.close()


def no_pipes(folder: Path) -> Path:
    made = folder / "no_pipes.so"
    source = Path(__file__).with_name("no_pipes.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", made, source], check=True)
    return made


@pytest.fixture
def open_shop(start_httpd: Start, folder: Path) -> Callable[[str, str], Httpd]:
    """A group with these options that reads nothing ahead, in an httpd that knows this way."""

    def start(way: str, options: str) -> Httpd:
        more, modules = ["Protocols h2c http/1.1"], ("http2",)
        environ = {}
        if way == "tls":
            more, modules = tls.lines(folder), tls.MODULES
        if way == "http2-blind":
            shims = [os.environ.get("LD_PRELOAD", ""), str(no_pipes(folder))]
            environ = {"LD_PRELOAD": " ".join(shims).strip()}
        # httpd itself gives such a client up long after our own deadline.
        lines = shop.lines(folder, f"request-buffering=0 {options}", "Timeout 300", *more)
        server = start_httpd(lines, root=folder, modules=modules, environ=environ)
        if way == "tls":
            server.log.allow(r"\[ssl:warn\]")
        wait_until(server.workers, "a worker")
        return server

    return start


Open = Callable[[str, str], Httpd]


@each_way
def test_an_upload_that_stalled_goes_on_when_its_client_does(open_shop: Open, way: str) -> None:
    server = open_shop(way, "threads=2 request-timeout=60s")
    with stalled(server, way, "body") as upload:
        assert upload.go_on() == b"%d" % len(WHOLE)


@each_way
def test_a_killed_worker_is_a_502_though_the_client_sends_nothing_more(
    open_shop: Open, way: str
) -> None:
    server = open_shop(way, "threads=2")
    server.log.expect("PG1103.*was killed by SIGKILL")
    server.log.expect("GL0504.*was killed by SIGKILL")
    (worker,) = server.workers()
    with stalled(server, way, "body") as upload:
        os.kill(worker, signal.SIGKILL)
        assert upload.status() == 502
    wait_until(lambda: server.workers() not in ([], [worker]), "its successor")


@each_way
def test_a_killed_worker_cuts_its_response_though_the_client_sends_nothing_more(
    open_shop: Open, way: str
) -> None:
    """What the application has sent before it reads on is here by then."""
    server = open_shop(way, "threads=2")
    server.log.expect("PG1103.*was killed by SIGKILL")
    server.log.expect("GL0504.*was killed by SIGKILL")
    (worker,) = server.workers()
    with stalled(server, way, "body", "&more") as upload:
        assert upload.status() == 200
        assert upload.block() == b"more"
        os.kill(worker, signal.SIGKILL)
        assert upload.is_cut()
    wait_until(lambda: server.workers() not in ([], [worker]), "its successor")


@each_way
def test_request_timeout_is_a_504_though_the_client_sends_nothing_more(
    open_shop: Open, way: str
) -> None:
    """The thread that waited is free then, and its worker serves on."""
    server = open_shop(way, "threads=2 request-timeout=2s")
    workers = server.workers()
    server.log.expect("GL0505: .*request-timeout= and interrupt-timeout= allow")
    server.log.expect("PG2020: request-timeout .* has passed for PUT /reads_on")
    server.log.allow(r"PG3020|PG3001|hread 0x|\[group shop\] (\s|$|Traceback|OSError)")
    with stalled(server, way, "body") as upload:
        assert upload.status() == 504
        wait_until((server.root / "files" / "body.failed").exists, "its read has failed")
    assert server.workers() == workers


@each_way
def test_a_client_that_leaves_is_an_error_of_the_application(open_shop: Open, way: str) -> None:
    server = open_shop(way, "threads=2")
    server.log.expect_traceback("OSError")
    with stalled(server, way, "body") as upload:
        upload.close()
        wait_until((server.root / "files" / "body.failed").exists, "its read has failed")
