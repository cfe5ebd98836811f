# SPDX-License-Identifier: Apache-2.0
"""A stand-in for httpd's parent: starts the real supervisor and speaks docs/plan.md to it.

The workers are real processes, started by the real privileged step, but their Python is a script
(`fake_worker.py`) that says on its message pipe what the test has written into its group's name.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.plans import UNSAID

import pyglue
from pyglue import _pages

PACKAGE = Path(pyglue.__file__).parent
FAKE_WORKER = Path(__file__).with_name("fake_worker.py")
HEAD = struct.Struct("=IIIIQ")
PLAN, LOGS, STOP = 1, 2, 3
SEALS = 0x0001 | 0x0002 | 0x0004 | 0x0008
F_ADD_SEALS = 1033
ROWS = 16
ROWS_HEAD = 16 + 8 * _pages.GROUP_SLOTS  # what stands before the rows
NOBODY = 65534
DEADLINE = 10.0

IS_ROOT = os.geteuid() == 0
UID = NOBODY if IS_ROOT else os.getuid()
GID = NOBODY if IS_ROOT else os.getgid()


def wait_for(
    condition: Callable[[], Any], what: str, evidence: Callable[[], str] = lambda: ""
) -> Any:
    """What the condition returned first that is true."""
    deadline = time.monotonic() + DEADLINE
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {DEADLINE} s: {what}\n{evidence()}")
        time.sleep(0.01)
    return result


class Worker:
    """An entry of the pages."""

    def __init__(self, entry: tuple[int, bytes, int, int, bytes, bytes]) -> None:
        self.number, self.digest, self.state, self.threads, path, self.key = entry
        self.path = Path(os.fsdecode(path))

    def ask(self, command: str) -> str:
        """A line to its socket, and its answer: the fake worker obeys."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(DEADLINE)
            sock.connect(str(self.path))
            sock.sendall(command.encode() + b"\n")
            return sock.makefile().readline().strip()

    @property
    def pid(self) -> int:
        return int(self.ask("pid"))


class StandIn:
    """httpd's parent, as far as the supervisor can see. `close` ends the supervisor."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="pyglue-supervisor-", dir="/tmp"))
        self.root.chmod(0o711)
        self.run = self.root / "run"
        self.run.mkdir(mode=0o755)
        self.python = self.root / "python"
        shutil.copy(FAKE_WORKER, self.python)
        self.python.chmod(0o755)
        self.log = self.root / "error_log"
        self.log.touch(0o600)
        self.plan_number = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.pages_fd = _memfd(_pages.size_pages())
        self.pages = _pages.map(self.pages_fd, True)
        self.pages.init()
        self.rows_fd = _memfd(_pages.size_rows(ROWS))
        _init_rows(self.rows_fd)

    def start(self, epoch: int = 1) -> None:
        """Forks and execs the supervisor, docs/plan.md section 1."""
        self.epoch = epoch
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        rows = os.open(f"/proc/self/fd/{self.rows_fd}", os.O_RDONLY)
        log = os.open(self.log, os.O_WRONLY | os.O_APPEND)
        given = [theirs.fileno(), self.pages_fd, rows]
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in given]
        fillers = _occupy(5)

        def place() -> None:
            for target, fd in enumerate(high, start=3):
                os.dup2(fd, target)

        self.process = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                "-B",
                str(PACKAGE / "supervisor" / "__main__.py"),
                "--parent",
                str(os.getpid()),
                "--epoch",
                str(epoch),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            umask=0o077,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
            start_new_session=True,
            pass_fds=(3, 4, 5),
            preexec_fn=place,
        )
        for fd in (rows, log, *high, *fillers):
            os.close(fd)
        theirs.close()

    # Plans.

    def group(self, name: str = "shop", **options: object) -> dict[str, object]:
        """A group's part of a plan."""
        identity = "".join(f"{part}\0" for part in (name, UID, GID, "", "", UID))
        return {
            **UNSAID,
            "name": name,
            "digest": hashlib.sha1(identity.encode()).hexdigest(),
            "user": "nobody",
            "uid": UID,
            "gid": GID,
            "groups": [GID],
            "user_home": "/",
            "home": "/",
            "python": str(self.python),
            "python_path": [],
            "launch_timeout": 10.0,
            "shutdown_timeout": 2.0,
            "scripts": [],
            **options,
        }

    def plan(self, *groups: dict[str, object], **options: object) -> dict[str, object]:
        self.plan_number += 1
        return {
            "version": 1,
            "plan": self.plan_number,
            "module": "0.1.0",
            "httpd": {
                "pid": os.getpid(),
                "uid": UID,
                "gid": GID,
                "privileged": IS_ROOT,
                "timeout": 60.0,
                "socket_prefix": str(self.run / "wsgi"),
                "request_max": 1 << 24,
            },
            "environ": [
                f"PATH={os.environ['PATH']}",
                "LANG=C.UTF-8",
                "SETTING=kept",
                "LD_PRELOAD=",
                "SUDO_USER=root",
            ],
            "python_home": None,
            "logs": 1,
            "groups": list(groups),
            **options,
        }

    def send(self, *groups: dict[str, object], **options: object) -> int:
        """Sends a plan; returns its number."""
        self.send_plan(self.plan(*groups, **options))
        return self.plan_number

    def send_plan(self, plan: dict[str, object]) -> None:
        fd = _memfd(0)
        os.write(fd, json.dumps(plan).encode())
        fcntl.fcntl(fd, F_ADD_SEALS, SEALS)
        log = os.open(self.log, os.O_WRONLY | os.O_APPEND)
        number = plan["plan"]
        assert isinstance(number, int)
        socket.send_fds(self.channel, [HEAD.pack(PLAN, 1, 1, 0, number)], [fd])
        socket.send_fds(self.channel, [HEAD.pack(LOGS, 1, 0, 1, number)], [log])
        os.close(fd)
        os.close(log)

    # What it can see.

    def workers(self, state: int | None = _pages.WORKER_READY) -> list[Worker]:
        """Entries of the pages in this state (None: any)."""
        entries = map(self.pages.read_worker, range(_pages.WORKER_SLOTS))
        found = [Worker(entry) for entry in entries if entry is not None]
        return [worker for worker in found if state is None or worker.state == state]

    def ready(self, count: int = 1) -> list[Worker]:
        """Waits for exactly so many ready workers."""
        wait_for(lambda: len(self.workers()) == count, f"{count} ready workers", self.read_log)
        return self.workers()

    def group_state(self, group: dict[str, object]) -> tuple[int, str] | None:
        return self.pages.read_group(bytes.fromhex(str(group["digest"])))

    def read_log(self) -> str:
        return self.log.read_text()

    def wait_log(self, text: str) -> str:
        wait_for(lambda: text in self.read_log(), f"{text!r} in the log", self.read_log)
        return self.read_log()

    # The end.

    def stop(self) -> int:
        """As at `apachectl stop`; the supervisor's exit status."""
        assert self.process is not None
        self.channel.send(HEAD.pack(STOP, 1, 2, 0, 0))
        return self.process.wait(DEADLINE)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.channel.close()
        for fd in (self.pages_fd, self.rows_fd):
            os.close(fd)
        shutil.rmtree(self.root)


def _memfd(size: int) -> int:
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.fchmod(fd, stat.S_IRUSR | stat.S_IWUSR)
    os.ftruncate(fd, size)
    return fd


def _occupy(last: int) -> list[int]:
    """Takes all free descriptors up to this one: subprocess's own pipe must not get one that the
    child is to have for something else."""
    taken = [os.open(os.devnull, os.O_RDONLY)]
    while taken[-1] <= last:
        taken.append(os.open(os.devnull, os.O_RDONLY))
    return taken


def _init_rows(fd: int) -> None:
    """What httpd's parent does with pyglue_rows_init: magic, version, count."""
    os.pwrite(fd, struct.pack("=III", 0x70796C67, 2, ROWS), 0)


def list_child(fd: int, place: int, pid: int, plan: int) -> None:
    """As pyglue_rows_child_started does, at a place of the test's choice."""
    row = struct.Struct("=i4xQi4x")
    os.pwrite(fd, row.pack(0, plan, pid), ROWS_HEAD + place * row.size)


def is_alive(pid: int) -> bool:
    """Also a zombie is: its parent has not reaped it."""
    return ctypes.CDLL(None).kill(pid, 0) == 0
