# SPDX-License-Identifier: Apache-2.0
"""A worker that the kernel kills because its control group is out of memory: RELIABILITY C 1."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.client import wait_until
from harness.httpd import Httpd
from process import shop
from process.shop import ask, facts

# Version 1, and version 2 where the controller is on: the folder, and the file of the limit.
PLACES = [
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
    (Path("/sys/fs/cgroup"), "memory.max"),
]
LIMIT = 96 << 20

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes a control group"),
]


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group of little memory; the file that takes pids."""
    for place, limit in PLACES:
        folder = place / f"pyglue-test-{os.getpid()}"
        with contextlib.suppress(OSError):
            folder.mkdir()
        if (folder / limit).exists():
            break
        with contextlib.suppress(OSError):
            folder.rmdir()
    else:
        pytest.skip("no memory controller can be used here")
    (folder / limit).write_text(str(LIMIT))
    yield folder / "cgroup.procs"
    wait_until(lambda: not (folder / "cgroup.procs").read_text(), "it is empty")
    folder.rmdir()


@pytest.fixture
def server(folder: Path, start_httpd: Callable[..., Httpd]) -> Httpd:
    started = start_httpd(shop.lines(folder, "threads=2"), root=folder)
    shop.wait_for_workers(started, 1)
    return started


def test_kernel_that_ran_out_of_memory_is_named(server: Httpd, small_group: Path) -> None:
    pid = facts(server)["pid"]
    server.log.expect(
        rf"PG1103: .*pid {pid}\).*with 1 running, was killed by SIGKILL, likely by the kernel, "
        r"which ran out of memory; it is replaced at once\. It ran: GET /dies \(id "
    )
    server.log.expect(
        "GL0504.*was killed by SIGKILL, likely by the kernel, which ran out of memory"
    )
    small_group.write_text(str(pid))
    assert ask(server, "/dies?memory").status == 502
    assert ask(server, "/who").status == 200
