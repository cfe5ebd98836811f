# SPDX-License-Identifier: Apache-2.0
"""How long a quick request takes while 200 slow clients keep four threads of Python's busy, if they
can: printed, never asserted. What is asserted is that every answer is right.

    PYGLUE_SECONDS=30 make test T='-s tests/perf/test_slow_clients.py'"""

from __future__ import annotations

import itertools
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from harness import conf
from harness.client import Connection, ask, request
from harness.httpd import Httpd
from harness.load import repeated

APPS = Path(__file__).parents[1] / "apps"
NAMES = ("hashes_the_body", "sends_blocks", "who")
SECONDS = float(os.environ.get("PYGLUE_SECONDS", "2"))
CLIENTS = 200
TURN = 0.1  # s between two pieces
PIECE = 1024  # bytes: 10 KiB/s
Start = Callable[..., Httpd]
UPLOAD = request("POST", "/hashes_the_body", body=bytes(60_000))


def started(start_httpd: Start, folder: Path, options: str) -> Httpd:
    folder.chmod(0o777)
    for name in NAMES:
        shutil.copytree(APPS / name, folder / name)
    names = ("ThreadLimit", "ThreadsPerChild", "MaxRequestWorkers")
    return start_httpd(
        [
            *(f"{name} 400" for name in names),
            f"WSGIDaemonProcess own threads=4 listen-backlog=300 {options}",
            "WSGIProcessGroup own",
            *(f'WSGIScriptAlias /{name} "{folder}/{name}/wsgi.py"' for name in NAMES),
            f'SetEnv files "{folder}"',
            "SendBufferSize 16384",
            *conf.granted(folder),
        ]
    )


def read_slowly(client: Connection) -> Iterator[None]:
    """A MiB, a piece at each turn."""
    client.send(request("GET", "/sends_blocks?16"))
    client.socket.setblocking(False)
    while True:
        with suppress(BlockingIOError):
            if not client.socket.recv(PIECE):
                return
        yield


def send_slowly(client: Connection) -> Iterator[None]:
    """60 KB, a piece at each turn."""
    for start in itertools.count(0, PIECE):
        client.send(UPLOAD[start : start + PIECE])
        yield


@contextmanager
def slow_clients(
    server: Httpd, behaviour: Callable[[Connection], Iterator[None]]
) -> Iterator[None]:
    with ExitStack() as stack:
        clients = []
        for _ in range(CLIENTS):
            clients.append(Connection(server.address, receive_buffer=4096))
            stack.callback(clients[-1].close)
        lives = [behaviour(client) for client in clients]

        def live() -> None:
            for life in lives:
                next(life, None)

        with repeated(live, TURN):
            yield


@pytest.mark.parametrize("behaviour", [read_slowly, send_slowly])
@pytest.mark.parametrize("options", ["", "response-spool=0 request-buffering=0"])
def test_quick_requests_beside_slow_clients(
    start_httpd: Start,
    folder: Path,
    options: str,
    behaviour: Callable[[Connection], Iterator[None]],
) -> None:
    server = started(start_httpd, folder, options)
    server.log.allow("GL050|OSError|Traceback|  File|    |AH")
    assert ask(server.address, "/who").status == 200
    times, statuses = [], []
    with slow_clients(server, behaviour):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            begun = time.monotonic()
            with suppress(TimeoutError):
                statuses.append(ask(server.address, "/who").status)
            times.append(1000 * (time.monotonic() - begun))
    times.sort()
    milliseconds = (statistics.median(times), times[len(times) * 99 // 100], times[-1])
    cells = (behaviour.__name__, options or "defaults", len(times), statuses.count(200))
    print("\n|", " | ".join(map(str, cells)), *(f"| {time:.1f}" for time in milliseconds), "|")
    if not options:
        assert statuses == [200] * len(times)
