# SPDX-License-Identifier: Apache-2.0
"""cgroup=, memory-max=, cpu-max=, pids-max=: a folder of the kernel's for each process group.

Version 2 has one tree. Version 1 has one for each controller, and its folders of one group have the
same name in each of them. Where both are mounted, bounds are set where their controllers are, and
version 2 is used beside them for its cgroup.kill. The jail's child joins by descriptors that are
opened here, before its user changes; whoever it starts is in it too. Knows no worker's state.
Up: server.py, births.py.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import causes, messages
from .launch import Recipe
from .plan import GroupPlan

PERIOD = 100_000  # microseconds, of which cpu-max is a share
PAGE = os.sysconf("SC_PAGE_SIZE")
TURN = 0.005
KILLS_AT_ONCE = 256  # so many descriptors
OWN_NAME = re.compile(r".+\.(\d+)\.(\d+)\.[0-9a-f]{8}")  # GROUP.PARENT.EPOCH.DIGEST
REMEDY = (
    "cgroup= names one in which httpd may make others: as root any that holds no process, else one "
    "that the service manager delegates (Delegate=yes)"
)
HELD = (
    "holds processes, so the kernel bounds nothing below it. Name another by cgroup=, such as "
    "cgroup=/wsgi.slice, or let systemd delegate that of httpd's service and keep httpd in one "
    "below it: Delegate=yes and DelegateSubgroup=httpd in a drop-in (docs/process-management.md "
    "says how before systemd 254)"
)
DELEGATED = ("trusted.delegate", "user.delegate")  # attributes by which systemd marks what it gives

Say = Callable[[messages.Message, "dict[str, object]", bytes], None]
Spawn = Callable[[Recipe, "list[int]"], "tuple[int, int, int]"]
SpawnWithin = Callable[[Recipe, "list[int]", Sequence[int]], "tuple[int, int, int]"]


class CgroupError(OSError):
    """The group cannot be bounded as configured; the text says why, and what to do."""


# What is mounted here.


@dataclass(frozen=True, slots=True)
class Tree:
    """A mounted hierarchy."""

    version: int
    top: Path
    own: Path  # the folder that this process is in, or that was delegated to its service
    controllers: frozenset[str]

    def folder(self, path: str) -> Path:
        """cgroup= within it: from its top, or below our own."""
        return self.top / path.lstrip("/") if path.startswith("/") else self.own / path


def mounted() -> list[Tree]:
    """Those of this process."""
    mounts, memberships = (
        Path(f"/proc/self/{name}").read_text() for name in ("mountinfo", "cgroup")
    )
    return list(trees(mounts, memberships))


def trees(mountinfo: str, memberships: str) -> Iterator[Tree]:
    """Of the texts of /proc/self/mountinfo and /proc/self/cgroup."""
    own = {}
    for line in memberships.splitlines():
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path))
    for line in mountinfo.splitlines():
        mount, _, system = line.partition(" - ")
        root, top = (_unescaped(text) for text in mount.split()[3:5])
        kind, _, options = system.split(" ", 2)
        if kind == "cgroup2":
            found = _words(Path(top) / "cgroup.controllers")
            within = _within(top, root, own.get("", "/"))
            yield Tree(2, Path(top), _service_of(within), found)
        elif kind == "cgroup":
            found = frozenset(name for name in options.split(",") if name in own)
            path = next((own[name] for name in found), "/")
            yield Tree(1, Path(top), _within(top, root, path), found)


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _within(top: str, root: str, path: str) -> Path:
    """Where a membership lies: a mount may show a part of its tree only, from `root` on."""
    if root != "/" and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return Path(top) if "/.." in path else Path(top) / path.lstrip("/")


def _service_of(own: Path) -> Path:
    """Below what processes are in nothing can be bounded. So a service that makes cgroups is kept
    in one beside those, and what was delegated to it is the folder above (DelegateSubgroup=)."""
    return own.parent if _is_delegated(own.parent) else own


def _is_delegated(folder: Path) -> bool:
    for name in DELEGATED:
        with contextlib.suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    return False


def _words(file: Path) -> frozenset[str]:
    try:
        return frozenset(file.read_text().split())
    except OSError:
        return frozenset()


# Bounds.


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is configured of one group."""

    path: str | None
    memory: int
    cpu: int  # percent
    pids: int

    @classmethod
    def of(cls, definition: GroupPlan) -> Bounds:
        return cls(
            definition.cgroup, definition.memory_max, definition.cpu_max, definition.pids_max
        )

    @property
    def are_wanted(self) -> bool:
        return self.path is not None or bool(self.needs)

    @property
    def needs(self) -> list[str]:
        """Controllers."""
        wanted = {"memory": self.memory, "cpu": self.cpu, "pids": self.pids}
        return [name for name, value in wanted.items() if value]

    def files(self, controller: str, version: int) -> dict[str, str]:
        """What is to be written, and then read."""
        memory, quota = str(self.memory // PAGE * PAGE), str(self.cpu * PERIOD // 100)
        table = {
            ("memory", 1): {"memory.limit_in_bytes": memory},
            ("memory", 2): {"memory.max": memory},
            ("cpu", 1): {"cpu.cfs_period_us": str(PERIOD), "cpu.cfs_quota_us": quota},
            ("cpu", 2): {"cpu.max": f"{quota} {PERIOD}"},
            ("pids", 1): {"pids.max": str(self.pids)},
            ("pids", 2): {"pids.max": str(self.pids)},
        }
        return table[controller, version]

    def __str__(self) -> str:
        options = {"memory-max": self.memory, "cpu-max": f"{self.cpu}%", "pids-max": self.pids}
        wanted = {"memory": "memory-max", "cpu": "cpu-max", "pids": "pids-max"}
        return ", ".join(f"{wanted[name]}={options[wanted[name]]}" for name in self.needs) or "none"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a group's folder lies in one tree, and what bounds it there."""

    tree: Tree
    base: Path
    controllers: tuple[str, ...]


def places(bounds: Bounds, mounts: Sequence[Tree]) -> list[Place]:
    """In version 2 if it is there, and in each tree that a bound needs. CgroupError."""
    unified = [tree for tree in mounts if tree.version == 2]
    chosen: dict[Tree, list[str]] = {tree: [] for tree in unified[:1]}
    for controller in bounds.needs:
        having = [tree for tree in mounts if controller in tree.controllers]
        if not having:
            raise CgroupError(
                f"there is no cgroup controller '{controller}' on this machine, or in this "
                f"container, and {controller}-max= needs it"
            )
        best = min(having, key=lambda tree: -tree.version)
        chosen.setdefault(best, []).append(controller)
    if not chosen:
        chosen = {tree: [] for tree in mounts if tree.controllers & {"pids", "memory"}}
    if not chosen:
        raise CgroupError("no cgroup file system is mounted here, and cgroup= needs one")
    return [
        Place(tree, tree.folder(bounds.path or ""), tuple(controllers))
        for tree, controllers in chosen.items()
    ]


# One group's folders.


@dataclass(slots=True, eq=False)
class Cgroup:
    """Folders of one name, one in each tree that is used."""

    bounds: Bounds
    folders: list[tuple[Place, Path]]
    above: list[Path] = field(default_factory=list)  # folders that were made for them
    memory: causes.Memory = field(init=False)
    explained: int = field(init=False)  # of its OOM kills, as the deaths of workers
    unexplained: int = 0  # when it was looked at last

    def __post_init__(self) -> None:
        self.memory = causes.Memory(self.oom_kills)
        self.explained = self.oom_kills()

    def others_killed(self) -> int:
        """Of what its workers have started, since it was asked last; once no death of a worker has
        explained it for a second."""
        now = max(self.oom_kills() - self.explained, 0)
        lasting = min(now, self.unexplained)
        self.unexplained = now - lasting
        self.explained += lasting
        return lasting

    def open(self) -> list[int]:
        """Their files of processes, for the jail. CgroupError."""
        opened: list[int] = []
        try:
            for _, folder in self.folders:
                opened.append(os.open(folder / "cgroup.procs", os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            for fd in opened:
                os.close(fd)
            raise CgroupError(f"{folder} cannot be joined: {error.strerror}. {REMEDY}") from error
        return opened

    @property
    def is_there(self) -> bool:
        """An empty one can be removed by others, such as a service manager that tidies up."""
        return all(folder.exists() for _, folder in self.folders)

    @property
    def has_kill(self) -> bool:
        return any((folder / "cgroup.kill").exists() for _, folder in self.folders)

    def kill(self) -> None:
        """All that is in it now. Without cgroup.kill some may be made meanwhile: ask again."""
        for place, folder in self.folders:
            with contextlib.suppress(OSError):
                if place.tree.version == 2:
                    _write(folder / "cgroup.kill", "1")
                    return
        for _, folder in self.folders:
            with contextlib.suppress(OSError):  # from now on nothing can be made in it
                _write(folder / "pids.max", "0")
        listed = sorted(self.pids())
        for start in range(0, len(listed), KILLS_AT_ONCE):
            self._kill_listed(listed[start : start + KILLS_AT_ONCE])

    def _kill_listed(self, listed: Sequence[int]) -> None:
        """By descriptors that were opened before the list was read again: a number may have become
        a stranger's since it was read first, and a stranger is not in it now."""
        opened: dict[int, int] = {}
        for pid in listed:
            with contextlib.suppress(OSError):
                opened[pid] = os.pidfd_open(pid)
        for pid in self.pids() & opened.keys():
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(opened[pid], signal.SIGKILL)
        for fd in opened.values():
            os.close(fd)

    def pids(self) -> set[int]:
        return {int(word) for _, folder in self.folders for word in _words(folder / "cgroup.procs")}

    def remove(self) -> bool:
        """True: nothing of it is left."""
        for _, folder in self.folders:
            with contextlib.suppress(OSError):
                folder.rmdir()
        return not any(folder.exists() for _, folder in self.folders)

    def oom_kills(self) -> int:
        """How many of its processes the kernel has killed for want of memory."""
        for place, folder in self.folders:
            if "memory" in place.controllers:
                name = "memory.events" if place.tree.version == 2 else "memory.oom_control"
                with contextlib.suppress(OSError, ValueError):
                    lines = (folder / name).read_text().splitlines()
                    return int(next(line[9:] for line in lines if line.startswith("oom_kill ")))
        return 0


def make(bounds: Bounds, name: str, mounts: Sequence[Tree]) -> Cgroup:
    """With its bounds set and read back. CgroupError: nothing is left of it."""
    chosen = places(bounds, mounts)
    above = [folder for place in chosen for folder in _missing(place.base)]
    folders: list[tuple[Place, Path]] = []
    try:
        for place in chosen:
            folder = place.base / name
            try:
                _make_folder(place, folder, bounds)
            except CgroupError:
                if place.controllers or len(chosen) == 1:
                    raise
                continue  # version 2 beside version 1: its kill alone would be lost
            finally:
                folders.append((place, folder))
    except CgroupError:
        Cgroup(bounds, folders).remove()
        remove_empty(above)
        raise
    return Cgroup(bounds, [(place, folder) for place, folder in folders if folder.exists()], above)


def _missing(base: Path) -> list[Path]:
    """Those of it and of the folders above it that are not there, the upper ones first."""
    return [folder for folder in (*reversed(base.parents), base) if not folder.exists()]


def remove_empty(folders: Sequence[Path]) -> None:
    for folder in reversed(folders):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _make_folder(place: Place, folder: Path, bounds: Bounds) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if place.tree.version == 2:
            _enable(place.tree, folder.parent, place.controllers)
        folder.mkdir(exist_ok=True)
        for controller in place.controllers:
            for file, value in bounds.files(controller, place.tree.version).items():
                _write(folder / file, value)
                if (folder / file).read_text().strip() != value:
                    raise CgroupError(f"{folder / file} did not take {value}")
    except CgroupError:
        raise
    except OSError as error:
        where = error.filename or folder
        raise CgroupError(f"{where} cannot be used: {error.strerror}. {REMEDY}") from error


def _enable(tree: Tree, base: Path, controllers: Sequence[str]) -> None:
    """Version 2: what a folder bounds must be enabled in each one above it. The kernel refuses that
    where processes are; of cpu and pids only when the first one joins, which is too late: from then
    on the folder is the top of a threaded tree, and what others have below it cannot be joined."""
    if controllers and _holds_processes(base):
        raise CgroupError(f"{base} {HELD}")
    missing = set(controllers) - _words(base / "cgroup.subtree_control")
    if not missing:
        return
    if base != tree.top and missing - _words(base / "cgroup.controllers"):
        _enable(tree, base.parent, controllers)
    try:
        _write(base / "cgroup.subtree_control", " ".join(f"+{name}" for name in sorted(missing)))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        raise CgroupError(f"{base} {HELD}") from error


def _holds_processes(folder: Path) -> bool:
    """The top of all, which alone has no type, may."""
    return (folder / "cgroup.type").exists() and bool(_words(folder / "cgroup.procs"))


def _write(file: Path, value: str) -> None:
    fd = os.open(file, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        error.filename = str(file)
        raise
    finally:
        os.close(fd)


# Those of all groups.


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
                if cgroup.remove():
                    del self._all[key]

    def was_short(self, definition: GroupPlan, now: float) -> bool:
        """Has the kernel lately killed one in it for want of memory? Asked of each worker that died
        by SIGKILL."""
        cgroup = self._all.get((definition.digest, Bounds.of(definition)))
        if cgroup is None or not cgroup.memory.was_short(now):
            return False
        cgroup.explained = min(cgroup.explained + 1, cgroup.oom_kills())
        return True

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
