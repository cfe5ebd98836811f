# SPDX-License-Identifier: Apache-2.0
"""What an instance consists of and must not leave behind: processes, descriptors, files, ports.

Every process of an instance carries its server root in its environment, also those that left the
parent's tree, session and user."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Collection
from pathlib import Path

MARK = "PYGLUE_TEST_ROOT"
CAP_SYS_PTRACE = 19


def may_look() -> bool:
    """May this process look into all of an instance? A container's root may not look into processes
    of other users, an ordinary user has none."""
    if os.geteuid() != 0:
        return True
    status = Path("/proc/self/status").read_text()
    return bool(int(status.split("CapEff:")[1].split()[0], 16) >> CAP_SYS_PTRACE & 1)


def processes(root: Path) -> dict[int, str]:
    """Pid and command of each process below the instance's parent, or with its mark."""
    wanted = f"{MARK}={root}".encode()
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = command(int(entry.name))
        except OSError:
            continue
    return found


def children(parent: int) -> list[int]:
    """Those of all its threads."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{parent}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def family(parent: int) -> list[int]:
    """The process and all its descendants."""
    return [parent, *(pid for child in children(parent) for pid in family(child))]


def command(pid: int) -> str:
    """The command line, or the name of a process that has none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def is_alive(pid: int) -> bool:
    """False also for one that has ended and waits to be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def is_open(fd: int) -> bool:
    """A descriptor of this process."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def descriptors(pid: int) -> list[str]:
    """What a process has open. What it closes meanwhile is left out."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(entry))
    return found


def files_open(pid: int) -> list[str]:
    """Files and memory that a process has open. Sockets come and go with clients, and httpd's
    threads make pipes and pollsets when they first wait."""
    others = ("socket:", "pipe:", "anon_inode:")
    return sorted(name for name in descriptors(pid) if not name.startswith(others))


def sockets_below(root: Path) -> list[Path]:
    """Socket files that are left in the server root."""
    return [path for path in root.rglob("*") if stat.S_ISSOCK(path.lstat().st_mode)]


def shared_segments(pids: Collection[int]) -> list[str]:
    """Segments, semaphores and queues of System V that these processes made or used last, and
    files in /dev/shm that they have open or mapped."""
    found = []
    for kind in ("shm", "sem", "msg"):
        head, *lines = Path(f"/proc/sysvipc/{kind}").read_text().splitlines()
        columns = [i for i, name in enumerate(head.split()) if name in ("cpid", "lpid", "lspid")]
        found += [line for line in lines if any(int(line.split()[i]) in pids for i in columns)]
    for pid in pids:
        with contextlib.suppress(OSError):
            maps = Path(f"/proc/{pid}/maps").read_text()
            found += [line for line in maps.splitlines() if "/dev/shm/" in line]
    return found


def is_listening(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=1).close()
    except OSError:
        return False
    return True


def ticks(pid: int) -> int:
    """Processor time that a process has used, in the kernel's units of 10 ms."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])
