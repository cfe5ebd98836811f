# SPDX-License-Identifier: Apache-2.0
"""The cgroups of all process groups: made when a worker is to join, removed when none is left.

In memory one for each definition with its bounds; on disk also those of supervisors before this
one, which bear the number of the same httpd. Knows no worker's state. Up: server.py, births.py;
down: cgroup.py.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from . import messages
from .bounds import Bounds, Place
from .cgroup import Cgroup, make, remove_empty
from .hierarchies import Tree, mounted
from .launch import Recipe
from .plan import GroupPlan
from .process import Spawn

TURN = 0.005
OWN_NAME = re.compile(r".+\.(\d+)\.(\d+)\.[0-9a-f]{8}")  # GROUP.PARENT.EPOCH.DIGEST

Say = Callable[[messages.Message, "dict[str, object]", bytes], None]
SpawnWithin = Callable[[Recipe, "list[int]", Sequence[int]], "tuple[int, int, int]"]
Key = tuple[bytes, Bounds]


class Cgroups:
    """The cgroups in use. One that no worker of its definition is in any more is emptied and
    removed; a definition with other bounds has another one."""

    def __init__(
        self, parent: int, epoch: int, say: Say, mounts: Callable[[], list[Tree]] = mounted
    ) -> None:
        self._suffix = f"{parent}.{epoch}"
        self._parent = parent
        self._say = say
        self._mounts = mounts
        self._all: dict[Key, Cgroup] = {}
        self._kills_before = 0  # for want of memory, in those that are gone
        self._places: set[Place] = set()
        self._above: list[Path] = []
        self._untold: set[bytes] = set()  # groups of which it was said that they have none

    def around(self, spawn: SpawnWithin) -> Spawn:
        """The same with the cgroup of the recipe's group. It starts nothing unbounded."""

        def spawn_within(recipe: Recipe, fds: list[int]) -> tuple[int, int, int]:
            joined = self.open(recipe.definition)
            try:
                return spawn(recipe, fds, joined)
            finally:
                for fd in joined:
                    os.close(fd)

        return spawn_within

    def open(self, definition: GroupPlan) -> list[int]:
        """Of this group, for the jail; empty where it has none. CgroupError."""
        bounds = Bounds.of(definition)
        if not bounds.are_wanted:
            if definition.digest not in self._untold:
                self._untold.add(definition.digest)
                self._say(messages.UNBOUNDED, {}, definition.digest)
            return []
        key = definition.digest, bounds
        if key not in self._all or not self._all[key].is_there:
            self._all[key] = self._make(definition, bounds)
        return self._all[key].open()

    def _make(self, definition: GroupPlan, bounds: Bounds) -> Cgroup:
        name = re.sub(r"[^A-Za-z0-9_-]", "_", definition.name)[:64]
        digest = hashlib.sha256(definition.digest + repr(bounds).encode()).hexdigest()[:8]
        made = make(bounds, f"{name}.{self._suffix}.{digest}", self._mounts())
        self._places.update(place for place, _ in made.folders)
        self._above += made.above
        means = "cgroup.kill" if made.has_kill else "killing what the kernel lists in it"
        values = {"folders": _listed(made), "bounds": bounds, "means": means}
        self._say(messages.BOUNDED, values, definition.digest)
        return made

    def look(self, now: float, in_use: Iterable[GroupPlan]) -> None:
        """Each second. in_use: definitions of all workers that there are."""
        kept = {(definition.digest, Bounds.of(definition)) for definition in in_use}
        for key, cgroup in list(self._all.items()):
            cgroup.memory.look(now)
            if others := cgroup.others_killed():
                values = {"count": others, "bounds": cgroup.bounds}
                self._say(messages.OTHERS_KILLED, values, key[0])
            if key not in kept:
                cgroup.kill()
                kills = cgroup.oom_kills()
                if cgroup.remove():
                    del self._all[key]
                    self._kills_before += kills

    def was_short(self, definition: GroupPlan, now: float) -> bool:
        """Has the kernel lately killed one in it for want of memory? Asked of each worker that died
        by SIGKILL."""
        cgroup = self._all.get((definition.digest, Bounds.of(definition)))
        if cgroup is None or not cgroup.memory.was_short(now):
            return False
        cgroup.explained = min(cgroup.explained + 1, cgroup.oom_kills())
        return True

    def oom_kills(self) -> int:
        """How many in cgroups of ours the kernel has killed for want of memory."""
        return self._kills_before + sum(cgroup.oom_kills() for cgroup in self._all.values())

    def kill(self) -> None:
        """At the end: all that is in them, and in those of supervisors before this one."""
        for cgroup in (*self._all.values(), *self._inherited()):
            cgroup.kill()

    def remove(self, seconds: float) -> list[str]:
        """After `kill`: their folders, which can be removed when all in them was reaped. Those that
        could not."""
        deadline = time.monotonic() + seconds
        left = [*self._all.values(), *self._inherited()]
        while left := [cgroup for cgroup in left if not cgroup.remove()]:
            if time.monotonic() >= deadline:
                return [_listed(cgroup) for cgroup in left]
            for cgroup in left:
                cgroup.kill()
            time.sleep(TURN)
        remove_empty(self._above)
        return []

    def _inherited(self) -> Iterator[Cgroup]:
        """Beside our own, those that bear the number of our httpd."""
        own = {folder for cgroup in self._all.values() for _, folder in cgroup.folders}
        for place in self._places:
            for folder in place.base.iterdir() if place.base.exists() else ():
                match = OWN_NAME.fullmatch(folder.name)
                if match and int(match[1]) == self._parent and folder not in own:
                    yield Cgroup(Bounds(None, 0, 0, 0), [(place, folder)])


def _listed(cgroup: Cgroup) -> str:
    return ", ".join(str(folder) for _, folder in cgroup.folders)
