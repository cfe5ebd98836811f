# SPDX-License-Identifier: Apache-2.0
"""TENANTS 6: what one group may hold of httpd, send and log, by options of WSGIDaemonProcess."""

from __future__ import annotations

import os
import re
import shutil
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness import conf
from harness.client import Connection, ask, connected, request, wait_until
from harness.httpd import Httpd

APPS = Path(__file__).parents[1] / "apps"
Start = Callable[..., Httpd]


def site_of(
    start_httpd: Start, folder: Path, app: str, options: str, *more: str, **others: Any
) -> Httpd:
    """One application at / in a group with these options."""
    shutil.copy(APPS / app / "wsgi.py", folder / "app.py")
    folder.chmod(0o777)
    alias = f'WSGIScriptAlias / "{folder}/app.py" process-group=own application-group=%{{GLOBAL}}'
    lines = [f"WSGIDaemonProcess own {options}", alias, f'SetEnv files "{folder}"']
    return start_httpd([*lines, *more, *conf.granted(folder)], **others)


@contextmanager
def running(server: Httpd, folder: Path, names: str) -> Iterator[list[Connection]]:
    """Requests to the application `waits` that were sent, the first of them running."""
    with ExitStack() as stack:
        sent = []
        for name in names:
            sent.append(stack.enter_context(connected(server.address)))
            sent[-1].send(request("GET", f"/?{name}"))
            if name == names[0]:
                wait_until((folder / f"{name}.runs").exists, "the first one runs", 20)
        try:
            yield sent
        finally:
            for name in names:
                (folder / f"{name}.end").touch()


def test_a_request_waits_for_a_thread_as_long_as_queue_timeout(
    start_httpd: Start, folder: Path
) -> None:
    """503 with Retry-After, and it never reaches Python (mod_wsgi: 504)."""
    server = site_of(start_httpd, folder, "waits", "threads=1 queue-timeout=300ms")
    server.log.expect("GL0506.*queue-timeout=")
    (folder / "warm.end").touch()
    wait_until(lambda: ask(server.address, "/?warm").status == 200, "a worker is there", 20)
    with running(server, folder, "ab") as (first, second):
        response = second.read_response()
        assert (response.status, response.header("Retry-After")) == (503, "1")
        (folder / "a.end").touch()
        assert first.read_response().status == 200
    assert not (folder / "b.runs").exists()


def test_a_worker_has_response_timeout_to_begin_its_answer(
    start_httpd: Start, folder: Path
) -> None:
    server = site_of(start_httpd, folder, "waits", "threads=1 response-timeout=300ms")
    server.log.expect("GL0505.*response-timeout=")
    with running(server, folder, "a") as (first,):
        assert first.read_response().status == 504


@pytest.mark.parametrize(
    ("options", "query", "status"),
    [
        ("response-header-count=10", "1&8", 200),
        ("response-header-count=10", "1&9", 502),
        ("response-header-count=600", "1&590", 200),
        ("response-header-size=8K", "2000&3", 200),
        ("response-header-size=8K", "2000&5", 502),
        ("response-header-size=400K", "30000&10", 200),
        ("header-buffer-size=300K", "290000", 200),
        ("header-buffer-size=300K response-header-size=200K", "290000", 502),
    ],
)
def test_a_response_head_has_the_bounds_of_its_group(
    start_httpd: Start, folder: Path, options: str, query: str, status: int
) -> None:
    server = site_of(start_httpd, folder, "long_header", options)
    if status != 200:
        server.log.expect("GL0302.*response-header-count= and response-header-size=")
    response = ask(server.address, f"/?{query}")
    assert response.status == status
    assert len(response.all("X-Long")) == (int(query.partition("&")[2] or 1) * (status == 200))


def lines_in(server: Httpd, told: str) -> tuple[int, int]:
    """Of the application's, those that were written, and those of which the log says that they
    were not."""
    text = server.log.text()
    return len(re.findall("floodx*$", text, re.M)), sum(map(int, re.findall(told, text)))


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("1", r"GL0507: .* (\d+) lines were left out: its workers log more than 1 a second"),
        ("2", r"PG1111: .* (\d+) lines of its workers were dropped: more than 1 a second"),
    ],
)
def test_lines_beyond_log_rate_and_log_burst_are_counted(
    start_httpd: Start, folder: Path, where: str, told: str
) -> None:
    """By wsgi.errors, and by descriptors 1 and 2."""
    server = site_of(start_httpd, folder, "logs_lines", "log-rate=1 log-burst=20")
    server.log.expect(told)
    server.log.allow("flood")
    assert ask(server.address, f"/?500&10&{where}").status == 200
    wait_until(lambda: sum(lines_in(server, told)) == 500, "all lines were written or counted")
    assert 20 <= lines_in(server, told)[0] < 250


@pytest.mark.parametrize(("size", "is_lost"), [("1K", True), ("10K", False)])
def test_a_request_logs_no_more_than_log_request_size(
    start_httpd: Start, folder: Path, size: str, is_lost: bool
) -> None:
    server = site_of(start_httpd, folder, "logs_lines", f"log-request-size={size}")
    server.log.allow("flood")
    if is_lost:
        server.log.expect(r"GL0501.*1024 bytes \(log-request-size=\)")
    for _ in range(2):  # each has all of it
        assert ask(server.address, "/?1&2000&1").status == 200
    assert lines_in(server, "(?!)(.)")[0] == (0 if is_lost else 2)


RESET = struct.pack("ii", 1, 0)  # SO_LINGER: the client's system sends RST
# What a filter is made to let go leaves this mark in its stream (RFC 1951: an empty stored block).
FLUSHED = b"\0\0\xff\xff"
DEFLATE: dict[str, Any] = {"modules": ("filter", "deflate")}
GZIP = {"Accept-Encoding": "gzip"}


def test_body_that_nothing_follows_reaches_the_client_before_the_end(
    start_httpd: Start, folder: Path
) -> None:
    """response-flush-delay: the last block is not flushed, as its end is about to follow; here it
    does not, and httpd's filter keeps all of it back."""
    server = site_of(start_httpd, folder, "ends_late", "", "SetOutputFilter DEFLATE", **DEFLATE)
    with connected(server.address) as connection:
        connection.send(request("GET", "/?100000&end", GZIP))
        assert connection.read_head().header("Content-Encoding") == "gzip"
        plain, stream = b"", zlib.decompressobj(31)
        while len(plain) < 100000:
            plain += stream.decompress(connection.read_chunk())
        (folder / "end").touch()
        while connection.read_chunk():
            pass


@pytest.mark.parametrize(
    ("options", "flushes"),
    [
        ("", 0),
        ("response-buffer-size=64K", 4),  # a frame has 256 KiB at most
        ("response-buffer-size=600K", 1),
        ("response-flush-delay=0", None),
    ],
)
def test_body_is_flushed_where_more_than_response_buffer_size_was_not(
    start_httpd: Start, folder: Path, options: str, flushes: int | None
) -> None:
    """Of 1 MiB in one block."""
    options = options if "delay" in options else f"response-flush-delay=60s {options}"
    server = site_of(start_httpd, folder, "zeros", options, "SetOutputFilter DEFLATE", **DEFLATE)
    response = ask(server.address, "/?1048576&length", headers=GZIP)
    assert zlib.decompress(response.body, 31) == bytes(1 << 20)
    assert flushes is None or response.body.count(FLUSHED) == flushes


def test_client_that_takes_nothing_has_response_socket_timeout(
    start_httpd: Start, folder: Path
) -> None:
    """Then the application is told, long before httpd's Timeout."""
    server = site_of(
        start_httpd, folder, "counts_close", "response-socket-timeout=1", "Timeout 300"
    )
    with connected(server.address) as connection:
        connection.send(request("GET", "/?closed&endless"))
        wait_until((folder / "closed").exists, "the worker knows that its client takes no more", 20)


def test_response_socket_timeout_is_no_time_for_the_next_request(
    start_httpd: Start, folder: Path
) -> None:
    server = site_of(start_httpd, folder, "echo", "response-socket-timeout=100ms")
    with connected(server.address) as connection:
        for _ in range(2):
            connection.send(request("POST", "/", {"Content-Length": "4"}) + b"ha")
            end = time.monotonic() + 0.5
            wait_until(lambda end=end: time.monotonic() > end, "several times that has passed")
            connection.send(b"lf")
            assert connection.read_response().body == b"half"


def age(seconds: float) -> None:
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end, f"{seconds:g} s have passed")


@contextmanager
def python_held(server: Httpd, folder: Path) -> Iterator[Connection]:
    """A request that holds the GIL of the only worker."""
    os.mkfifo(folder / "first.fifo")
    (folder / "first.fifo").chmod(0o666)
    with connected(server.address) as first:
        first.send(request("GET", "/?first"))
        wait_until((folder / "first.runs").exists, "it runs", 20)
        age(0.2)  # and has come to hold the GIL
        try:
            yield first
        finally:
            fifo = os.open(folder / "first.fifo", os.O_RDWR | os.O_NONBLOCK)
            os.write(fifo, b"x")
            assert first.read_response().status == 200
            os.close(fifo)


def test_request_that_python_had_no_time_for_is_a_504_and_never_runs(
    start_httpd: Start, folder: Path
) -> None:
    """A worker with a free thread took it, but its Python was busy for longer than that."""
    server = site_of(start_httpd, folder, "holds_python", "threads=3 queue-timeout=500ms")
    server.log.expect("PG2040.*queue-timeout=")
    server.log.allow("GL0506.*queue-timeout=")  # until the worker is there
    wait_until(lambda: ask(server.address, "/?warm").status == 200, "a worker is there", 20)
    with connected(server.address) as late:
        with python_held(server, folder):
            late.send(request("GET", "/?late"))
            age(1)
        assert late.read_response().status == 504
    assert ask(server.address, "/?last").status == 200
    assert not (folder / "late.runs").exists()


def test_request_whose_client_left_while_python_was_busy_never_runs(
    start_httpd: Start, folder: Path
) -> None:
    server = site_of(
        start_httpd,
        folder,
        "holds_python",
        "threads=3",
        f'CustomLog "{folder}/access" "%q"',
        modules=("log_config",),
    )
    assert ask(server.address, "/?warm").status == 200
    with python_held(server, folder):
        with connected(server.address) as leaving:
            leaving.send(request("GET", "/?leaving"))
            age(0.2)  # it is in the worker
            leaving.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        access = folder / "access"
        wait_until(lambda: "?leaving" in access.read_text(), "the worker has been told", 20)
    assert ask(server.address, "/?last").status == 200
    assert not (folder / "leaving.runs").exists()
