# SPDX-License-Identifier: Apache-2.0
"""The forks of a process that has preloaded an application."""

from __future__ import annotations

import subprocess
import sys

import pytest

# A supervisor, a preloader below it, and what that forks. `{before}` is the application's.
FAMILY = """
import ctypes, os, resource, signal, time
from pyglue.worker import preload

def say(text):
    os.write(1, text.encode())

ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
supervisor = os.getpid()
if os.fork() == 0:
    {before}
    for _ in range(3):
        if preload.fork(say):
            say("a worker" if os.getppid() == supervisor else "a stranger")
            say(" that leads its session, " if os.getsid(0) == os.getpid() else ", ")
            os._exit(0)
    os._exit(0)
try:
    while True:
        os.wait()
except ChildProcessError:
    pass
"""


def said(before: str) -> str:
    script = FAMILY.format(before=before)
    ran = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    return ran.stdout


@pytest.mark.parametrize(
    "before",
    [
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        "os.register_at_fork(after_in_parent=lambda: time.sleep(0.1))",
    ],
    ids=["ignores its children", "takes long to fork"],
)
def test_a_fork_goes_on_as_a_child_of_the_supervisor(before: str) -> None:
    assert said(before) == "a worker that leads its session, " * 3


def test_a_fork_that_cannot_be_is_told_and_the_preloader_goes_on() -> None:
    """Here it has no descriptor for it."""
    told = said("resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))")
    assert told == "a worker could not be forked: Too many open files" * 3
