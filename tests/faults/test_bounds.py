# SPDX-License-Identifier: Apache-2.0
"""TENANTS 6, SUCCESSION 11: how much of httpd one group may hold, and what ends its waiting."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from harness import conf
from harness.client import Connection, Response, connected, request, wait_until
from harness.httpd import Httpd

APPS = Path(__file__).parents[1] / "apps"
Start = Callable[..., Httpd]


def lines(folder: Path, options: str) -> list[str]:
    """A group with the application that runs until it is told to end, and another group."""
    folder.chmod(0o777)
    for name in ("waits", "writes"):
        shutil.copytree(APPS / name, folder / name)
    return [
        f"WSGIDaemonProcess own {options}",
        "WSGIDaemonProcess other",
        f'WSGIScriptAlias /waits "{folder}/waits/wsgi.py" process-group=own',
        f'WSGIScriptAlias /other "{folder}/writes/wsgi.py" process-group=other',
        f'SetEnv files "{folder}"',
        *conf.granted(folder),
    ]


def get(server: Httpd, target: str) -> Response:
    with connected(server.address) as connection:
        connection.send(request("GET", target))
        return connection.read_response()


@contextmanager
def held(server: Httpd, folder: Path, count: int) -> Iterator[list[Connection]]:
    """One request that runs in the only thread, and others that wait behind it."""
    with ExitStack() as stack:
        connections = []
        for i in range(count):
            connections.append(stack.enter_context(connected(server.address)))
            connections[-1].send(request("GET", f"/waits?{i}"))
            if i == 0:
                wait_until((folder / "0.runs").exists, "the first request runs", 20)
        try:
            yield connections
        finally:
            for i in range(count):
                (folder / f"{i}.end").touch()


def statuses(server: Httpd, folder: Path, count: int, refused: int, words: str) -> list[int]:
    """Of so many requests at once, when so many of them were refused and the rest was let run."""
    server.log.expect(words)
    with held(server, folder, count) as waiting:
        wait_until(lambda: server.log.text().count(words) == refused, "some are refused")
        assert get(server, "/other").status == 200
        for i in range(count):
            (folder / f"{i}.end").touch()
        answers = [one.read_response() for one in waiting]
    assert {a.header("Retry-After") for a in answers if a.status == 503} == {"1"}
    return sorted(answer.status for answer in answers)


@pytest.mark.parametrize(
    ("options", "held"), [("", 9), ("child-threads=25", 3), ("child-threads=1", 1)]
)
def test_a_group_holds_its_share_of_a_childs_threads_and_no_more(
    start_httpd: Start, folder: Path, options: str, held: int
) -> None:
    """Of 12."""
    server = start_httpd(lines(folder, f"threads=1 {options}"))
    assert statuses(server, folder, held + 2, 2, "child-threads=") == [200] * held + [503] * 2


def test_requests_wait_up_to_the_groups_backlog(start_httpd: Start, folder: Path) -> None:
    server = start_httpd(lines(folder, "threads=1 listen-backlog=2"))
    assert statuses(server, folder, 5, 2, "listen-backlog") == [200] * 3 + [503] * 2


def test_request_whose_client_left_while_it_waited_never_reaches_python(
    start_httpd: Start, folder: Path
) -> None:
    server = start_httpd([*lines(folder, "threads=1"), "LogLevel wsgi:info"])
    with held(server, folder, 2) as (first, leaving):
        leaving.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        leaving.close()
        server.log.wait_for("the client left while the request waited")
        (folder / "0.end").touch()
        assert first.read_response().status == 200
    assert not (folder / "1.runs").exists()


def test_a_clock_that_jumps_ends_no_waiting(start_httpd: Start, folder: Path) -> None:
    """RELIABILITY C 22: NTP, suspend, an administrator."""
    shim = folder / "jumping_clock.so"
    source = Path(__file__).with_name("jumping_clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source], check=True)
    preload = " ".join([os.environ.get("LD_PRELOAD", ""), str(shim)]).strip()
    environ = {"LD_PRELOAD": preload, "PYGLUE_TEST_JUMP": str(folder / "jump")}
    server = start_httpd(lines(folder, "threads=1"), environ=environ)

    def serve_others() -> None:
        for _ in range(20):
            assert get(server, "/other").status == 200

    with held(server, folder, 2) as (first, waiting):
        serve_others()  # the second one has come to wait meanwhile
        (folder / "jump").touch()
        serve_others()  # and has looked at the clock
        for number in (0, 1):
            (folder / f"{number}.end").touch()
        assert first.read_response().status == 200
        assert waiting.read_response().status == 200


def test_stop_does_not_wait_for_what_waits(start_httpd: Start, folder: Path) -> None:
    server = start_httpd(lines(folder, "processes=1 threads=1 python=/bin/false"))
    server.log.allow("GL05|PG1|AH00045")  # but not AH00046, a child that httpd has to kill
    with connected(server.address) as connection:
        connection.send(request("GET", "/waits?0"))
        server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only for root is the chain of files checked")
def test_supervisor_that_cannot_be_started_fails_requests_at_once(
    start_httpd: Start, folder: Path
) -> None:
    """The package lies where others than root can write: root executes nothing of it."""
    product = conf.prefix()
    copy = folder / "env"
    shutil.copytree(product, copy, symlinks=True)
    package = next(copy.glob("lib/python*/site-packages/pyglue"))
    package.chmod(0o777)
    server = Httpd(lines(folder, "threads=1"))
    text = (server.root / "httpd.conf").read_text()
    (server.root / "httpd.conf").write_text(text.replace(str(product), str(copy)))
    try:
        server.start()
        assert get(server, "/waits?0").status == 500
        server.log.wait_for("GL0602.*writable by others")
        server.log.wait_for("no supervisor can be started")
    finally:
        server.stop()
        server.remove()
