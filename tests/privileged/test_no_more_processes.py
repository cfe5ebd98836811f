# SPDX-License-Identifier: Apache-2.0
"""RELIABILITY C 18: the machine has no process left to give when a worker is to be started."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import sight
import traced
from harness.client import wait_until
from harness.httpd import Httpd
from harness.load import Load
from process.shop import facts

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.looks_inside,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: strace attaches to root's processes"),
]

FORKS = "clone,clone3,fork,vfork"


def test_a_worker_that_cannot_be_forked_is_tried_again_and_others_serve(
    start_shop: Callable[..., Httpd], folder: Path
) -> None:
    """Nobody sees an error; the log tells why one is missing."""
    server = start_shop("processes=2 threads=4", workers=2)
    server.log.expect("PG1103.*SIGKILL")
    server.log.expect("PG1105.*Resource temporarily unavailable.*the next start is in")
    server.log.allow("GL0504.*SIGKILL|PG1105")
    victim, lives = server.workers()
    inject = (f"--trace={FORKS}", f"--inject={FORKS}:error=EAGAIN")
    with traced.strace(sight.supervisor(server), folder / "strace", *inject):
        os.kill(victim, signal.SIGKILL)
        server.wait_for_exit(victim)
        server.log.wait_for("PG1105", 30)
        with Load(server.address, "/who", clients=2) as load:
            load.wait_for_more(50)
        assert load.failures() == []
        assert facts(server)["pid"] == lives
    wait_until(lambda: len(server.workers()) == 2, "it is replaced", 30)
    assert "INJECTED" in (folder / "strace").read_text()


def test_new_workers_of_a_graceful_restart_that_cannot_be_forked_are_waited_for(
    start_shop: Callable[..., Httpd], folder: Path
) -> None:
    """The old ones serve on."""
    server = start_shop("threads=4")
    server.log.expect("PG1105.*Resource temporarily unavailable.*the next start is in")
    server.log.allow("PG1105")
    (old,) = server.workers()
    inject = (f"--trace={FORKS}", f"--inject={FORKS}:error=EAGAIN")
    with Load(server.address, "/who", clients=2, keep_alive=False) as load:
        with traced.strace(sight.supervisor(server), folder / "strace", *inject):
            server.graceful()
            server.log.wait_for("PG1105", 30)
            load.wait_for_more(20)
            assert facts(server)["pid"] == old
        server.wait_for_exit(old)
    assert load.failures() == []
