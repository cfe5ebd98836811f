# SPDX-License-Identifier: Apache-2.0
"""One process group's cgroup: folders of one name, one in each hierarchy that is used, made with
their bounds and removed again.

The jail's child joins by descriptors that are opened here, before its user changes; whoever it
starts is in it too. Knows no worker. Up: cgroups.py; down: bounds.py, hierarchies.py, family.py.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import causes
from .bounds import Bounds, CgroupError, Place, places
from .family import open_pidfd
from .hierarchies import Tree, words

KILLS_AT_ONCE = 256  # so many descriptors
REMEDY = (
    "cgroup= names one in which httpd may make others: as root any that holds no process, else one "
    "that the service manager delegates (Delegate=yes)"
)
HELD = (
    "holds processes, so the kernel bounds nothing below it. Name another by cgroup=, such as "
    "cgroup=/wsgi.slice, or let systemd delegate that of httpd's service and keep httpd in one "
    "below it: Delegate=yes, DelegateSubgroup=httpd and PIDFile= in a drop-in "
    "(docs/process-management.md says how before systemd 254)"
)


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
        a stranger's since it was read first, and a stranger is not in it now. Without descriptors
        (Linux before 5.3) the second list is as young as can be."""
        opened: dict[int, int] = {}
        for pid in listed:
            with contextlib.suppress(ProcessLookupError):
                opened[pid] = open_pidfd(pid)
        for pid in self.pids() & opened.keys():
            with contextlib.suppress(OSError):
                if opened[pid] >= 0:
                    signal.pidfd_send_signal(opened[pid], signal.SIGKILL)
                else:
                    os.kill(pid, signal.SIGKILL)
        for fd in opened.values():
            if fd >= 0:
                os.close(fd)

    def pids(self) -> set[int]:
        return {int(word) for _, folder in self.folders for word in words(folder / "cgroup.procs")}

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
                    return int(next((line[9:] for line in lines if line[:9] == "oom_kill "), 0))
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
    missing = set(controllers) - words(base / "cgroup.subtree_control")
    if not missing:
        return
    if base != tree.top and missing - words(base / "cgroup.controllers"):
        _enable(tree, base.parent, controllers)
    try:
        _write(base / "cgroup.subtree_control", " ".join(f"+{name}" for name in sorted(missing)))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        raise CgroupError(f"{base} {HELD}") from error


def _holds_processes(folder: Path) -> bool:
    """The top of all, which alone has no type, may."""
    return (folder / "cgroup.type").exists() and bool(words(folder / "cgroup.procs"))


def _write(file: Path, value: str) -> None:
    fd = os.open(file, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        error.filename = str(file)
        raise
    finally:
        os.close(fd)
