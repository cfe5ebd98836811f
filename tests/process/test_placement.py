# SPDX-License-Identifier: Apache-2.0
"""DESIGN 4: no request waits behind a busy worker while another is idle. Shown by order and by the
rows, with httpd's children of one thread and of many."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import conf
from harness.client import Connection, request, wait_until
from harness.httpd import Httpd
from harness.memories import Memories

APPS = Path(__file__).parents[1] / "apps"
WORKERS = 4
Start = Callable[..., Httpd]
pytestmark = pytest.mark.looks_inside


class Clients:
    """Requests to the application `waits`, each on a connection of its own."""

    def __init__(self, server: Httpd, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.sent: dict[str, Connection] = {}

    def send(self, *names: str) -> None:
        for name in names:
            self.sent[name] = Connection(self.server.address, 30)
            self.sent[name].send(request("GET", f"/?{name}"))

    def running(self) -> set[str]:
        return {path.stem for path in self.folder.glob("*.runs") if path.stem in self.sent}

    def end(self, name: str) -> None:
        """Lets it end, and reads the answer."""
        (self.folder / f"{name}.end").touch()
        connection = self.sent.pop(name)
        assert connection.read_response().body == b"done"
        connection.close()


@contextmanager
def group_of(
    start_httpd: Start, folder: Path, mpm: str, threads: int = 1
) -> Iterator[tuple[Clients, Memories]]:
    """Workers of so many threads each, all of them ready."""
    shutil.copy(APPS / "waits" / "wsgi.py", folder / "app.py")
    folder.chmod(0o777)
    lines = [
        f"WSGIDaemonProcess own processes={WORKERS} threads={threads}",
        f'WSGIScriptAlias / "{folder}/app.py" process-group=own application-group=%{{GLOBAL}}',
        f'SetEnv files "{folder}"',
        *conf.granted(folder),
    ]
    server = start_httpd(lines, mpm=mpm)
    clients = Clients(server, folder)
    with Memories(server) as memories:
        wait_until(lambda: memories.running() == [0] * WORKERS, "all workers are ready", 30)
        try:
            yield clients, memories
        finally:
            for name in list(clients.sent):
                (folder / f"{name}.end").touch()
                clients.sent.pop(name).close()


@pytest.mark.parametrize("mpm", ["event", "prefork"])
def test_each_request_goes_to_a_worker_that_is_idle(
    start_httpd: Start, folder: Path, mpm: str
) -> None:
    """From one child, and from a child for each request. Were one placed behind another it would
    not run, as none of them ends before all run."""
    with group_of(start_httpd, folder, mpm) as (clients, memories):
        for turn in range(10):
            names = [f"{turn}{letter}" for letter in "abcd"]
            clients.send(*names)
            wait_until(lambda names=names: clients.running() == set(names), "all run at once", 20)
            assert memories.running() == [1] * WORKERS
            for name in names:
                clients.end(name)


@pytest.mark.parametrize("mpm", ["event", "prefork"])
def test_a_free_thread_beside_a_request_is_not_idle(
    start_httpd: Start, folder: Path, mpm: str
) -> None:
    """That request may hold the Python that both need. The next ones go where fewest run."""
    with group_of(start_httpd, folder, mpm, threads=4) as (clients, memories):
        for turn in range(5):
            names = [f"{turn}{letter}" for letter in "abcdefgh"]
            for sent, name in enumerate(names, 1):
                clients.send(name)
                wait_until(lambda name=name: name in clients.running(), "it runs", 20)
                few, more = divmod(sent, WORKERS)
                assert sorted(memories.running()) == [few] * (WORKERS - more) + [few + 1] * more
            for name in names:
                clients.end(name)
            wait_until(lambda: memories.running() == [0] * WORKERS, "all places are given back", 20)


@pytest.mark.parametrize("mpm", ["event", "prefork"])
def test_a_request_that_waits_takes_whichever_worker_is_free_first(
    start_httpd: Start, folder: Path, mpm: str
) -> None:
    with group_of(start_httpd, folder, mpm) as (clients, memories):
        clients.send(*"abcd")
        wait_until(lambda: clients.running() == set("abcd"), "all workers are busy", 20)
        for ended, waiting in zip("cadb", "efgh", strict=True):
            clients.send(waiting)
            wait_until(lambda: memories.waiting() == 1, "one waits", 20)
            assert memories.running() == [1] * WORKERS
            assert waiting not in clients.running()
            clients.end(ended)
            wait_until(lambda name=waiting: name in clients.running(), "it runs in its place", 20)
            assert memories.waiting() == 0
        for name in "efgh":
            clients.end(name)
        wait_until(lambda: memories.running() == [0] * WORKERS, "all places are given back", 20)
