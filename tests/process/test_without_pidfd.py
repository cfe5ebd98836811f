# SPDX-License-Identifier: Apache-2.0
"""Without pidfd_open, as before Linux 5.3 and where the filter of a container denies it, all goes
on as elsewhere."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import census, refuse
from harness.client import wait_until
from harness.httpd import Httpd
from process import shop
from process.shop import ask, facts
from process.test_reload_command import reload

PIDFD_OPEN = 434  # of every architecture


class Restricted(Httpd):
    """Without the system call, for all of its processes."""

    error = errno.ENOSYS

    def command(self, *more: str) -> list[str]:
        denied = [sys.executable, refuse.__file__, str(PIDFD_OPEN), str(self.error)]
        return [*denied, *super().command(*more)]


@pytest.fixture(params=[errno.ENOSYS, errno.EPERM], ids=errno.errorcode.get)
def server(request: pytest.FixtureRequest, folder: Path) -> Iterator[Restricted]:
    made = Restricted(shop.lines(folder, "threads=4"), root=folder)
    made.error = request.param
    try:
        yield made.start()  # type: ignore[misc]
        made.stop()
        made.log.check()
    finally:
        made.stop()


def looks(server: Httpd) -> None:
    """The supervisor looks twice more: a worker that leaves is seen at once, its end at a look."""
    for _ in range(2):
        old = facts(server)["pid"]
        os.kill(old, signal.SIGUSR1)
        wait_until(lambda gone=old: facts(server)["pid"] != gone, "another worker serves")
        server.wait_for_exit(old)


def test_it_serves_reloads_and_stops(server: Restricted) -> None:
    old, supervisor = facts(server)["pid"], server.supervisor()
    told = reload(server, "shop")
    assert told.returncode == 0, told.stdout
    assert facts(server)["pid"] != old
    server.graceful()
    looks(server)
    assert server.supervisor() == supervisor
    assert "PG1007" not in server.log.text()


def test_the_supervisor_ends_when_nobody_of_httpd_is_left(server: Restricted) -> None:
    server.log.expect("PG1007")
    assert ask(server, "/who").status == 200
    supervisor = server.supervisor()
    family = server.processes()
    for pid in (server.pid, *set(census.children(server.pid)) - {supervisor}):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(census.is_alive, family)), "the supervisor and its worker end")
