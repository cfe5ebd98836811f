# SPDX-License-Identifier: Apache-2.0
"""What a tenant takes beyond his limits, and that nobody else misses it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import neighbours
import pytest
import sight
from harness import census
from harness.client import ask, wait_until
from harness.httpd import Httpd
from harness.load import Load

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: limits are counted by user"),
]

BOMBER = 61321  # a number that no user has, nor the next one
LIMIT = 60


def lines_of(folder: Path, options: str) -> list[str]:
    return neighbours.lines_of(folder, "bomber", BOMBER, options)


def tasks_of(uid: int) -> int:
    """Threads of all processes of that user: what the kernel counts."""
    return sum(
        int(sight.status(pid)["Threads"])
        for pid in map(int, filter(str.isdecimal, os.listdir("/proc")))
        if census.is_alive(pid) and sight.status(pid)["Uid"].split()[0] == str(uid)
    )


def test_a_fork_bomb_ends_at_its_users_limit_and_a_neighbours_requests_do_not_fail(
    folder: Path, start_httpd: Callable[..., Httpd]
) -> None:
    """Children that have children until the kernel refuses, all of which stay."""
    server = start_httpd(lines_of(folder, f"process-limit={LIMIT}"))
    with Load(server.address, "/neighbour?cpu=1", clients=2) as load:
        assert ask(server.address, "/bomber?processes").body == b"true", "the kernel refused more"
        wait_until(lambda: tasks_of(BOMBER) > LIMIT - 5, "the limit is reached")
        assert tasks_of(BOMBER) <= LIMIT
        load.wait_for_more(50)
        assert ask(server.address, "/bomber?cpu=1").status == 200, "its own worker goes on, too"
    assert load.failures() == []


def test_a_user_with_too_many_processes_gets_no_worker_and_the_log_names_the_option(
    folder: Path, start_httpd: Callable[..., Httpd]
) -> None:
    """Of two workers with six threads each, the second has no place."""
    server = start_httpd(lines_of(folder, "process-limit=3"))
    server.log.expect(
        r"PG1150.*process-limit|failed at '(execve|setresuid)': Resource.*process-limit="
    )
    server.log.allow("PG11|GL0506")
    assert ask(server.address, "/bomber?cpu=1").status == 500
    assert ask(server.address, "/neighbour?cpu=1").status == 200
