# SPDX-License-Identifier: Apache-2.0
"""Memory and descriptors stay what they were (RELIABILITY C 27): after many requests, clients that
leave, reloads and graceful restarts. Counts come from the environment; the table is printed.

    PYGLUE_SOAK=1000 make test T='-s tests/perf/test_soak.py'       # all that C 27 asks for"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from harness import census, conf
from harness.client import ask, request, wait_until
from harness.httpd import Httpd

APPS = Path(__file__).parents[1] / "apps"
TIMES = int(os.environ.get("PYGLUE_SOAK", "1"))
BATCH = 50  # requests in one write
WARM = 4_000  # requests after which memory has found its size
MORE_KIB = 1024  # C 27
MODES = {"daemon": "own", "embedded": "%{GLOBAL}"}
GROUPS = [f"turn{number}" for number in range(8)]  # one may start but one worker a second
GOOD = b"HTTP/1.1 200 OK"

Start = Callable[..., Httpd]
Roles = dict[str, list[int]]


@pytest.fixture
def server(start_httpd: Start, folder: Path) -> Httpd:
    """One child of httpd and one worker, which nothing replaces but what the test does."""
    (folder / "files").mkdir()
    (folder / "files").chmod(0o777)
    for name in ("who", "sends_blocks"):
        shutil.copytree(APPS / name, folder / name)
    return start_httpd(
        [
            "StartServers 1",
            "ThreadsPerChild 8",
            "MinSpareThreads 1",
            "MaxSpareThreads 8",
            "MaxRequestWorkers 8",
            "MaxKeepAliveRequests 0",
            "LogLevel warn",
            "WSGIDaemonProcess own threads=4",
            *(f"WSGIDaemonProcess {group} threads=4 processes=0-1" for group in GROUPS),
            *(
                f'WSGIScriptAlias /{mode}/{name} "{folder}/{name}/wsgi.py" '
                f"process-group={group} application-group=%{{GLOBAL}}"
                for mode, group in MODES.items()
                for name in ("who", "sends_blocks")
            ),
            *(
                f'WSGIScriptAlias /{group} "{folder}/who/wsgi.py" '
                f"process-group={group} application-group=%{{GLOBAL}}"
                for group in GROUPS
            ),
            f'SetEnv files "{folder}/files"',
            *conf.granted(folder),
        ],
        root=folder,
    )


def roles(server: Httpd) -> Roles:
    return {
        "parent": [server.pid],
        "supervisor": [server.supervisor()],
        "children": [p for p in census.children(server.pid) if p != server.supervisor()],
        "workers": server.workers(),
    }


def resident_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Rss:"))


class Sizes:
    """Of each process that lives through a phase: memory in KiB and descriptors, when no worker is
    on its way."""

    def __init__(self, server: Httpd, workers: int = 1) -> None:
        self._server, self._workers = server, workers
        self.before = self._measure()

    def _measure(self) -> dict[tuple[str, int], tuple[int, int]]:
        still = self._workers
        wait_until(lambda: len(self._server.workers()) == still, "the others have ended", 30)
        found = {}
        for role, pids in roles(self._server).items():
            for pid in pids:
                with suppress(FileNotFoundError, ProcessLookupError):  # it was leaving
                    found[role, pid] = resident_kib(pid), len(census.descriptors(pid))
        return found

    def check(self, what: str, *, more: int = MORE_KIB) -> None:
        after = self._measure()
        for (role, pid), (kib, fds) in self.before.items():
            if (role, pid) not in after:
                continue
            now_kib, now_fds = after[role, pid]
            print(f"{what:40} {role:10} {kib:8} -> {now_kib:8} KiB {fds:4} -> {now_fds:4} files")
            assert now_kib - kib <= more, f"{role} grew by {now_kib - kib} KiB: {what}"
            assert now_fds <= fds + 8, f"{role} holds {now_fds - fds} files more: {what}"


def ask_many(server: Httpd, mode: str, count: int) -> None:
    """Over one kept connection, several at once."""
    block = request("GET", f"/{mode}/who") * BATCH
    with socket.create_connection(server.address, 60) as sock:
        for _ in range(count // BATCH):
            sock.sendall(block)
            seen, rest = 0, b""
            while seen < BATCH:
                data = rest + sock.recv(1 << 16)
                assert len(data) > len(rest), "the connection ended"
                seen += data.count(GOOD)
                rest = data[-len(GOOD) + 1 :]


def leave_early(server: Httpd, mode: str, count: int) -> None:
    """Clients that go while a MiB is on its way to them."""
    for _ in range(count):
        with socket.create_connection(server.address, 60) as sock:
            sock.sendall(request("GET", f"/{mode}/sends_blocks?16"))
            sock.recv(1000)


@pytest.fixture(params=sorted(MODES))
def mode(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


@pytest.mark.looks_inside
@pytest.mark.timeout(7200)
def test_requests_and_clients_that_leave_cost_no_memory(server: Httpd, mode: str) -> None:
    ask_many(server, mode, WARM)
    leave_early(server, mode, 50)
    sizes = Sizes(server)
    ask_many(server, mode, 5_000 * TIMES)
    sizes.check(f"{5_000 * TIMES} requests, {mode}")
    leave_early(server, mode, 10 * TIMES)
    ask_many(server, mode, BATCH)
    sizes.check(f"{10 * TIMES} clients that left, {mode}")


@pytest.mark.looks_inside
@pytest.mark.timeout(7200)
def test_reloads_and_graceful_restarts_cost_no_memory(server: Httpd) -> None:
    def worker(group: str = GROUPS[0]) -> int:
        return int(json.loads(ask(server.address, f"/{group}/who").body)["pid"])

    def reload() -> None:
        """Each group once."""
        old = {group: worker(group) for group in GROUPS}
        for pid in old.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)
        for group, pid in old.items():
            wait_until(lambda g=group, p=pid: worker(g) != p, "another worker serves", 30)

    workers = len(GROUPS) + 1
    ask_many(server, "daemon", WARM)
    for _ in range(3):
        reload()
    sizes = Sizes(server, workers)
    for _ in range(10 * TIMES // len(GROUPS) + 1):
        reload()
    sizes.check(f"{10 * TIMES} reloads")
    for _ in range(5):
        server.graceful()
    sizes = Sizes(server, workers)
    for _ in range(TIMES):
        server.graceful()
        assert worker()
    sizes.check(f"{TIMES} graceful restarts")
