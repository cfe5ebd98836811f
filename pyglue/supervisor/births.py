# SPDX-License-Identifier: Apache-2.0
"""How a worker comes into being: its listener, key, pipes and settings, and then a fork, by the
jail or by a process of its group that has preloaded the application.

Knows the plan, because it tells what a worker is started with; knows no state of a group.
Up: crew.py; down: process.py, nursery.py, listeners.py, launch.py.
"""

from __future__ import annotations

import os
from types import ModuleType

from . import launch, process
from .actions import Launch
from .listeners import Directory, Listener
from .nursery import NUMBER as PRELOADER
from .nursery import Birth, Calls, Nursery
from .plan import Plan
from .process import Ends, Process, Spawn
from .reader import Reader

SCRIPTS_SIZE = 1 << 16  # some hundreds of them
MOST_KEPT = 4  # threads of ours, by one user


class Births:
    """Makes workers, and owns the directories of their sockets."""

    def __init__(self, parent: int, epoch: int, memory: ModuleType, spawn: Spawn) -> None:
        self._parent, self._epoch = parent, epoch
        self._memory = memory  # pyglue._pages
        self._spawn = spawn
        self._directories: dict[str, Directory] = {}
        self._reader = Reader()
        self._scripts: dict[bytes, int] = {}  # of each group, the memory of what its workers loaded
        self.plan: Plan | None = None  # the newest one that was taken

    def attend(self, calls: Calls) -> Nursery:
        """The nursery, which asks this of the crew."""
        self._nursery = Nursery(self._spawn, calls, self._reader.read)
        return self._nursery

    def make(self, action: Launch, now: float) -> Process:
        """A worker that was forked, or (pid 0) that a preloader will fork. OSError, ValueError,
        ListenError: nothing is left of it."""
        assert self.plan is not None
        self._check_reader(action.definition.uid)
        directory = self._directory(self.plan.httpd.socket_prefix)
        listener = directory.listen(action.number, action.definition.listen_backlog)
        try:
            made, ends = process.make(
                action.number,
                launch.recipe(action.definition, self.plan),
                os.urandom(self._memory.KEY_SIZE),
                listener,
                self._memory.size_record(),
                self._scripts_of(action.definition.digest),
                read=self._reader.read,
            )
        except OSError:
            self.remove_socket(listener)
            raise
        try:
            self._begin(action, self.plan, made, ends, now)
        except BaseException:
            made.kill()  # it is reaped as a process that nobody knows
            made.close()
            self.remove_socket(listener)
            raise
        return made

    def open_listener(self, worker: Process) -> None:
        """To httpd's children, from now on; ours is closed. ListenError."""
        assert self.plan is not None
        uid = launch.connecting_uid(worker.definition, self.plan)
        self._directory(self.plan.httpd.socket_prefix).give(worker.listener, uid)

    def remove_socket(self, listener: Listener) -> None:
        for directory in self._directories.values():
            directory.remove_socket(listener)

    def lost_directories(self) -> list[str]:
        """Those of sockets that somebody has removed since the last time."""
        return [each.path for each in self._directories.values() if each.is_lost()]

    def remove_directories(self) -> None:
        """At the end, also where no worker was started: one that died may have left its own."""
        if self.plan is not None:
            self._directory(self.plan.httpd.socket_prefix)
        for directory in self._directories.values():
            directory.remove()

    def forget(self, digest: bytes) -> None:
        """The group is gone."""
        fd = self._scripts.pop(digest, -1)
        if fd >= 0:
            os.close(fd)

    def _begin(self, action: Launch, plan: Plan, made: Process, ends: Ends, now: float) -> None:
        """Has it forked, and tells it its settings."""
        definition = action.definition
        settings = launch.settings(definition, plan, action.number, made.key, has_list=True)
        if definition.preload:
            of_preloader = launch.settings(
                definition, plan, PRELOADER, b"", preloads=True, has_list=True
            )
            self._nursery.launch(Birth(made, ends, settings, of_preloader, action.roll), now)
            return
        made.spawn(self._spawn, ends)
        self.open_listener(made)
        made.send(settings)

    def _check_reader(self, uid: int) -> None:
        """Each worker could keep another thread, for as long as its user likes."""
        if (kept := self._reader.kept(uid)) >= MOST_KEPT:
            raise ValueError(
                f"what {kept} processes of its user left in their pipes cannot be read "
                "yet: a file system of that user does not answer. When it is unmounted, "
                "workers are started again"
            )

    def _scripts_of(self, digest: bytes) -> int:
        """Of all workers of one identity, one after the other. Never read here."""
        if digest not in self._scripts:
            self._scripts[digest] = process.make_memory("pyglue-scripts", SCRIPTS_SIZE)
        return self._scripts[digest]

    def _directory(self, prefix: str) -> Directory:
        if prefix not in self._directories:
            self._directories[prefix] = Directory(prefix, self._parent, self._epoch)
        return self._directories[prefix]
