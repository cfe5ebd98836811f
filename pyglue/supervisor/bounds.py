# SPDX-License-Identifier: Apache-2.0
"""What cgroup=, memory-max=, cpu-max= and pids-max= ask for, in the kernel's terms: which files get
which values, and in which of the mounted hierarchies.

Bounds are set where their controllers are. Where version 1 has them version 2 is used beside it,
for its cgroup.kill. Nothing is written here. Up: cgroup.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .hierarchies import Tree
from .plan import GroupPlan

PERIOD = 100_000  # microseconds, of which cpu-max is a share
PAGE = os.sysconf("SC_PAGE_SIZE")


class CgroupError(OSError):
    """The group cannot be bounded as configured; the text says why, and what to do."""


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
