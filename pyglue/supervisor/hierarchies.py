# SPDX-License-Identifier: Apache-2.0
"""The cgroup hierarchies that are mounted here, and where in them this process lies.

Version 2 has one tree with all controllers. Version 1 has one for each controller. Both may be
mounted. Knows nothing of groups. Up: bounds.py, cgroup.py.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DELEGATED = ("trusted.delegate", "user.delegate")  # attributes by which systemd marks what it gives


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
        os.fsdecode(Path(f"/proc/self/{name}").read_bytes()) for name in ("mountinfo", "cgroup")
    )
    return list(trees(mounts, memberships))


def trees(mountinfo: str, memberships: str) -> Iterator[Tree]:
    """Of the texts of /proc/self/mountinfo and /proc/self/cgroup. A tenant who may mount (FUSE)
    names the folder: the kernel escapes in it what divides the text, a space and a newline, and no
    other that Python takes for one."""
    own = {}
    for line in filter(None, memberships.split("\n")):
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path))
    for line in filter(None, mountinfo.split("\n")):
        mount, _, system = line.partition(" - ")
        root, top = (_unescaped(text) for text in mount.split(" ")[3:5])
        kind, _, options = system.split(" ", 2)
        if kind == "cgroup2":
            found = words(Path(top) / "cgroup.controllers")
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


def words(file: Path) -> frozenset[str]:
    """Of one of the kernel's files; none where it cannot be read."""
    try:
        return frozenset(file.read_text().split())
    except OSError:
        return frozenset()
