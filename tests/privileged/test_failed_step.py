# SPDX-License-Identifier: Apache-2.0
"""A privileged step that fails, end to end: no Python runs, the log names the step, others serve.

RELIABILITY B1#1. All calls and faults are in test_jail_injection.py; here one of each kind."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import sight
import traced
from harness import conf
from harness.client import wait_until
from harness.httpd import Httpd

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: strace attaches to root's processes"),
]

APPS = Path(__file__).parent.parent / "apps"
STEPS = {"setpriority": "nice"}
UNLUCKY, LUCKY = 61301, 61302  # numbers that no user has


@pytest.mark.parametrize(
    ("call", "fault", "reason"),
    [
        ("setpriority", "error=EACCES", "Permission denied"),
        ("setgroups", "error=EPERM", "Operation not permitted"),
        ("setresuid", "error=EAGAIN", "Resource temporarily unavailable"),
        ("setresuid", "retval=0", "the effect did not show"),
    ],
)
def test_a_failed_step_never_runs_python_and_ends_its_own_group(
    folder: Path, start_httpd: Callable[..., Httpd], call: str, fault: str, reason: str
) -> None:
    log = folder / "strace"
    shutil.copytree(APPS / "tries", folder / "tries")
    lines = [
        *(f"WSGIDaemonProcess {name} user=#{uid} group=#{uid} threads=2 cpu-priority=1"
          " launch-timeout=5"  # a child that the tracer has left stopped
          for name, uid in (("unlucky", UNLUCKY), ("lucky", LUCKY))),
        *(f'WSGIScriptAlias /{name} "{folder}/tries/wsgi.py" process-group={name}'
          " application-group=%{GLOBAL}" for name in ("unlucky", "lucky")),
        "Timeout 2",
        *conf.granted(folder),
    ]  # fmt: skip
    server = start_httpd(lines, root=folder)
    server.log.allow("PG1|GL0")

    def serves(name: str) -> bool:
        """A request waits for two seconds only, in which a busy machine may start no worker."""
        return sight.ask(server, f"/{name}?what=setuid")[0] == 200

    for name in ("unlucky", "lucky"):
        wait_until(lambda name=name: serves(name), f"{name} serves", 60)
        assert sight.attempt(server, name, "setuid") == "EPERM"
    step = STEPS.get(call, call)
    server.log.expect(f":alert.*PG1117.*failed at '{step}': .*{reason}.*; the next start is in")
    inject = (f"--trace={call},execve", f"--inject={call}:{fault}")
    with traced.strace(sight.supervisor(server), log, *inject):
        os.kill(sight.supervised(server, UNLUCKY), signal.SIGKILL)
        server.log.wait_for(f"failed at '{step}'", 60)
        assert sight.ask(server, "/unlucky?what=setuid")[0] in (500, 503)
        assert sight.attempt(server, "lucky", "setuid") == "EPERM"
    text = log.read_text()
    assert "INJECTED" in text
    assert not re.search(r"execve\(", text)
    wait_until(lambda: serves("unlucky"), "it is tried again", 60)
