# SPDX-License-Identifier: Apache-2.0
"""The workers that run on this machine, as /proc shows them to anybody who may look.

Nothing here is taken from a file: a pid that was written down may be another process by now. A
worker is a child of a supervisor, bears its group in its command line or environment (pyglue/
supervisor/launch.py) and its state as the name of a thread (pyglue/worker/process.c). A tenant can
forge all of that of his own processes, and so for them alone: `is_sound` asks that supervisor and
worker be of users who cannot pass for others."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SUPERVISOR = b"/pyglue/supervisor/__main__.py"
BOOT = b"/pyglue/worker/boot.py"
VARIABLE = b"PYGLUE_GROUP="
STATE = "wsgi:"  # before the state, in the name of the thread that listens to the supervisor
RELOADING = {"ready", "unloaded"}  # states in which SIGUSR1 brings a new worker
MINDS_SIGNAL = 1 << (signal.SIGUSR1 - 1)


@dataclass(frozen=True, slots=True)
class Worker:
    """One of them, at the moment of looking."""

    pid: int
    uid: int
    group: str
    state: str  # "starting", "ready", "unloaded", "leaving"
    supervisor: int
    httpd: int  # the parent of the supervisor; 0: not to be seen


class Machine:
    """What /proc tells. `proc` is another folder in tests."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc

    def workers(self) -> list[Worker]:
        """All that can be seen, by pid."""
        pids = sorted(int(entry.name) for entry in self._proc.iterdir() if entry.name.isdigit())
        return [found for pid in pids if (found := self.worker(pid)) is not None]

    def worker(self, pid: int) -> Worker | None:
        """None: it is none, or has gone."""
        try:
            status = self._status(pid)
            supervisor = int(status["PPid"])
            httpd = self._httpd_of(supervisor, status)
            state = self._state(pid) if httpd is not None else None
            if httpd is None or state is None:
                return None
            if state == "starting" and int(status["SigCgt"], 16) & MINDS_SIGNAL:
                state = "ready"  # without /proc of its own it cannot name its thread
            uid = int(status["Uid"].split()[0])
            return Worker(pid, uid, self._group(pid), state, supervisor, httpd)
        except (OSError, ValueError, LookupError):  # a line of its owner's choice, too
            return None

    def command(self, pid: int) -> list[bytes]:
        """The command line; empty if it cannot be seen."""
        try:
            return (self._proc / str(pid) / "cmdline").read_bytes().split(b"\0")[:-1]
        except OSError:
            return []

    def _httpd_of(self, supervisor: int, worker: dict[str, str]) -> int | None:
        """The parent of this supervisor, 0 if it is hidden from us (hidepid); None: it is none."""
        if os.geteuid() != 0 and not (self._proc / str(supervisor)).exists():
            return 0  # the kernel lets us signal processes of our own alone
        command = self.command(supervisor)
        if not any(argument.endswith(SUPERVISOR) for argument in command):
            return None
        if not is_sound(self._status(supervisor)["Uid"].split(), worker["Uid"].split()):
            return None
        return int(command[command.index(b"--parent") + 1])

    def _status(self, pid: int) -> dict[str, str]:
        text = (self._proc / str(pid) / "status").read_text("utf-8", "replace")
        return {k: v.strip() for k, _, v in (line.partition(":") for line in text.splitlines())}

    def _state(self, pid: int) -> str | None:
        for name in self._threads(pid):
            if name.startswith(STATE):
                return name.removeprefix(STATE)
        return None

    def _threads(self, pid: int) -> Iterator[str]:
        """Their names. A fork of a worker's own has not the thread that tells the state."""
        for task in (self._proc / str(pid) / "task").iterdir():
            try:
                yield (task / "comm").read_text("utf-8", "replace").rstrip("\n")
            except OSError:
                continue

    def _group(self, pid: int) -> str:
        """Its name; "" if display-name= has taken its place and the environment is closed to us."""
        command = self.command(pid)
        boots = [i for i, argument in enumerate(command[:-1]) if argument.endswith(BOOT)]
        if boots:
            return os.fsdecode(command[boots[0] + 1])
        try:
            pairs = (self._proc / str(pid) / "environ").read_bytes().split(b"\0")
        except OSError:
            return ""
        names = (pair.removeprefix(VARIABLE) for pair in pairs if pair.startswith(VARIABLE))
        return os.fsdecode(next(names, b""))


def is_sound(supervisor: list[str], worker: list[str]) -> bool:
    """Real, effective, saved and file system uids of both. A supervisor of root's has workers of
    other users, and one of another user has his own: else a tenant could start a program of root's
    with words of his choice, and have root signal it."""
    uids = set(supervisor)
    return len(uids) == 1 and (uids == {"0"} or set(worker) == uids) and "0" not in worker
