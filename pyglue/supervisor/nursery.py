# SPDX-License-Identifier: Apache-2.0
"""preload=on: one process of a group that has loaded the application, and whose forks its workers
are, so that they share that memory until they write to it (SUCCESSION.md section 10).

Such a preloader is started through the jail like a worker, but has no listener, no record and no
key of its own; those of each worker pass through it. It forks twice, which makes the worker a child
of ours, as we are the subreaper. It is told to over a socket that is only written here. The core
knows nothing of all this: for it a launch takes longer, and may fail. Up: crew.py.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from . import family, messages
from .actions import Death
from .listeners import Listener
from .plan import GroupPlan
from .process import Ends, Process, Read, Spawn, make
from .worker import FAILURES, Message, State, Worker

if TYPE_CHECKING:
    from .launch import Recipe

FORK = struct.pack("=IIQ", 1, 0, 0)  # docs/plan.md section 5
NUMBER = 0  # of every preloader: it is no incarnation of a worker


@dataclass(slots=True, eq=False)
class Birth:
    """A worker that is to be forked. Owns the ends until they are handed over."""

    process: Process
    ends: Ends
    settings: bytes
    of_preloader: bytes  # settings of a preloader for it
    roll: int


@dataclass(slots=True, eq=False)
class _Preloader:
    process: Process
    roll: int
    sock: socket.socket
    life: Worker
    deadline: float | None  # of its hello
    failure: str = ""
    waiting: list[Birth] = field(default_factory=list)
    # Worker's number: until when, and what is to be forked.
    forking: dict[int, tuple[float, Process]] = field(default_factory=dict)

    @property
    def definition(self) -> GroupPlan:
        return self.process.definition

    @property
    def is_idle(self) -> bool:
        return not self.waiting and not self.forking


@dataclass(frozen=True, slots=True)
class Calls:
    """What the nursery asks of the crew."""

    watch: Callable[[Process], None]  # a preloader was started
    forget: Callable[[Process], None]  # a preloader is over: close it
    tell: Callable[[Process, bytes], None]  # a worker that is being forked: its settings
    told: Callable[[Process], None]  # a worker is being forked: its listener may be given
    failed: Callable[[int, str], None]  # the launch of this worker came to nothing
    say: Callable[[messages.Message, dict[str, object], bytes], None]


class Nursery:
    """All preloaders: usually one a group, two while one takes over from the other."""

    def __init__(self, spawn: Spawn, calls: Calls, read: Read | None = None) -> None:
        self._spawn = spawn
        self._read = read
        self._calls = calls
        self._all: list[_Preloader] = []

    # Workers.

    def launch(self, birth: Birth, now: float) -> None:
        """Has it forked, as soon as a preloader of its definition and roll has loaded. OSError,
        ValueError: no preloader could be started, and the ends are closed."""
        definition = birth.process.definition
        found = None
        for preloader in self._of_group(definition.digest):
            if (preloader.roll, preloader.definition) == (birth.roll, definition):
                found = preloader
            elif preloader.is_idle:
                self._kill(preloader)
        if found is None:
            try:
                found = self._start(birth, now)
            except BaseException:
                birth.ends.close()
                raise
            self._all.append(found)
        found.waiting.append(birth)
        self._fork_waiting(found, now)

    def is_forking(self, number: int) -> bool:
        """It was asked for, and nothing was heard of it yet."""
        return any(number in preloader.forking for preloader in self._all)

    def settle(self, number: int) -> None:
        """It was forked, or never will be, or is not wanted any more. One that is being forked just
        now ends by itself if nobody holds the other end of its control pipe. A preloader that was
        named as the fork is a worker from now on: here its pid would outlive its reaping."""
        named = None
        for preloader in self._all:
            if number in preloader.forking:
                named = self.by_pid(preloader.forking.pop(number)[1].pid)
            for birth in [b for b in preloader.waiting if b.process.number == number]:
                preloader.waiting.remove(birth)
                birth.ends.close()
        if named is not None:
            self.gone(named, Death("was named as a worker that it had forked"))

    def preloaders(self) -> list[Process]:
        return [preloader.process for preloader in self._all]

    # Preloaders.

    def message(self, process: Process, words: tuple[int, int, int], now: float) -> None:
        """One of them said something."""
        preloader = self._of(process)
        if preloader is None:
            return
        message = preloader.life.advance(*words)
        if message is Message.HELLO:
            preloader.deadline = None
        elif message is Message.READY:
            self._fork_waiting(preloader, now)
        elif message is Message.FAILED:
            preloader.failure = FAILURES[words[1]].format(python=process.recipe.executable)
        elif message is None:
            preloader.failure = f"it sent what it may not (type {words[0]})"
            process.kill()

    def by_pid(self, pid: int) -> Process | None:
        return next((p.process for p in self._all if p.process.pid == pid), None)

    def gone(self, process: Process, death: Death) -> None:
        """One of them was reaped: what it was to fork has to be started anew."""
        preloader = self._of(process)
        if preloader is None:
            return
        reason = preloader.failure or f"the process that preloads the application {death.cause}"
        if preloader.is_idle:
            self._calls.say(
                messages.PRELOADER_GONE,
                {"pid": process.pid, "cause": death.cause},
                process.definition.digest,
            )
        self._drop(preloader)
        for number in [b.process.number for b in preloader.waiting]:
            self._calls.failed(number, reason)
        for number in list(preloader.forking):
            self._calls.failed(number, reason)

    def keep(self, digests: set[bytes]) -> None:
        """Those of other groups, which have no worker any more that was forked, and start none, are
        not needed."""
        for preloader in list(self._all):
            if preloader.definition.digest not in digests:
                self._kill(preloader)

    def tick(self, now: float) -> None:
        for preloader in self._all:
            seconds = preloader.definition.launch_timeout
            times = [until for until, _ in preloader.forking.values()]
            times += filter(None, [preloader.deadline])
            if times and now >= min(times):
                preloader.deadline = None
                preloader.failure = (
                    f"the process that preloads the application did not answer within "
                    f"launch-timeout ({seconds:g} s)"
                )
                preloader.process.kill()

    # Within.

    def _start(self, birth: Birth, now: float) -> _Preloader:
        recipe: Recipe = birth.process.recipe
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.ExitStack() as undone, theirs:
            undone.callback(ours.close)
            ours.shutdown(socket.SHUT_RD)  # nobody attaches anything to a socket of root's
            ours.setblocking(False)
            listener, scripts = Listener("", theirs), birth.ends.scripts
            process, ends = make(NUMBER, recipe, b"", listener, None, scripts, read=self._read)
            undone.callback(process.close)
            process.spawn(self._spawn, ends)
            undone.pop_all()
        process.listener.sock = None
        process.send(birth.of_preloader)
        self._calls.watch(process)
        self._calls.say(messages.PRELOADER_STARTED, {"pid": process.pid}, process.definition.digest)
        life = Worker(NUMBER, process.definition, pid=process.pid)
        deadline = now + process.definition.launch_timeout
        return _Preloader(process, birth.roll, ours, life, deadline)

    def _fork_waiting(self, preloader: _Preloader, now: float) -> None:
        if preloader.life.state is not State.READY:
            return
        while preloader.waiting:
            birth = preloader.waiting[0]
            try:
                self._send(preloader, birth)
            except OSError as error:  # it reads no more, or is dead
                preloader.failure = f"the process that preloads the application: {error.strerror}"
                preloader.process.kill()
                return
            preloader.waiting.pop(0)
            number, seconds = birth.process.number, birth.process.definition.launch_timeout
            preloader.forking[number] = now + seconds, birth.process
            birth.ends.close()
            self._calls.tell(birth.process, birth.settings)
            self._calls.told(birth.process)

    @staticmethod
    def _send(preloader: _Preloader, birth: Birth) -> None:
        listener = birth.process.listener.sock
        assert listener is not None
        ends = birth.ends
        socket.send_fds(
            preloader.sock,
            [FORK],
            [
                ends.control,
                listener.fileno(),
                birth.process.record,
                ends.messages,
                ends.log_read,
                ends.log_write,
            ],
        )

    def _kill(self, preloader: _Preloader) -> None:
        """Nothing runs in it that would have to end well. It is reaped as a process that nobody
        knows."""
        preloader.process.kill()
        self._drop(preloader)

    def _drop(self, preloader: _Preloader) -> None:
        self._all.remove(preloader)
        for birth in preloader.waiting:
            birth.ends.close()
        preloader.sock.close()
        self._calls.forget(preloader.process)

    def _of(self, process: Process) -> _Preloader | None:
        return next((p for p in self._all if p.process is process), None)

    def _of_group(self, digest: bytes) -> list[_Preloader]:
        return [p for p in self._all if p.definition.digest == digest]


def is_fork(pid: int, uid: int) -> bool:
    """Is it a child of ours, dead or alive, and this user's? What a worker says of itself is the
    word of a stranger."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        uids = family.status(f"/proc/{pid}")["Uid"].split()
    except (OSError, OverflowError, KeyError, ValueError):
        return False
    return uids == [str(uid)] * 4
