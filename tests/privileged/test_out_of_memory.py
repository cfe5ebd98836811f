# SPDX-License-Identifier: Apache-2.0
"""A worker that the kernel kills because its control group is out of memory: RELIABILITY C 1."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.client import wait_until
from harness.httpd import Httpd
from process import shop
from process.shop import ask, facts

from pyglue.supervisor import cgroup, hierarchies
from pyglue.supervisor.bounds import Bounds, CgroupError

LIMIT = 96 << 20

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes a control group"),
]


@pytest.fixture
def small_group() -> Iterator[cgroup.Cgroup]:
    """A control group of little memory, of which the supervisor does not know."""
    bounds, name = Bounds("/", LIMIT, 0, 0), f"pyglue-small-{os.getpid()}"
    try:
        made = cgroup.make(bounds, name, hierarchies.mounted())
    except CgroupError as error:
        pytest.skip(str(error))
    yield made
    wait_until(made.remove, "it is empty")


@pytest.fixture
def server(folder: Path, start_httpd: Callable[..., Httpd]) -> Httpd:
    started = start_httpd(shop.lines(folder, "threads=2"), root=folder)
    shop.wait_for_workers(started, 1)
    return started


def test_kernel_that_ran_out_of_memory_is_named(server: Httpd, small_group: cgroup.Cgroup) -> None:
    pid = facts(server)["pid"]
    server.log.expect(
        rf"PG1103: .*pid {pid}\).*with 1 running, was killed by SIGKILL, likely by the kernel, "
        r"which ran out of memory; it is replaced at once\. It ran: GET /dies \(id "
    )
    server.log.expect(
        "GL0504.*was killed by SIGKILL, likely by the kernel, which ran out of memory"
    )
    for _, folder in small_group.folders:
        (folder / "cgroup.procs").write_text(str(pid))
    assert ask(server, "/dies?memory").status == 502
    assert ask(server, "/who").status == 200
