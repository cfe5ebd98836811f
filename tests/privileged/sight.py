# SPDX-License-Identifier: Apache-2.0
"""What root sees of a process: the tests' view of httpd, supervisor and workers through /proc,
and what another user can do."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from harness import census
from harness.client import wait_until
from harness.httpd import Httpd

BLOCK = 1 << 24


@dataclass(frozen=True)
class User:
    name: str
    uid: int
    gid: int
    groups: list[int]  # all of them, sorted


def status(pid: int) -> dict[str, str]:
    """/proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def environ(pid: int) -> dict[str, str]:
    """What it was exec'd with."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")[:-1]
    return dict(pair.split("=", 1) for pair in pairs)


def descriptors(pid: int) -> dict[int, str]:
    """Number and target of each open descriptor; one that closes meanwhile is left out."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found[int(entry.name)] = os.readlink(entry)
    return found


@dataclass(frozen=True)
class Mapping:
    start: int
    end: int
    mode: str
    name: str


def mappings(pid: int) -> Iterator[Mapping]:
    """/proc/PID/maps."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, mode, _, _, _, *name = line.split(maxsplit=5)
        start, end = (int(number, 16) for number in span.split("-"))
        yield Mapping(start, end, mode, "".join(name))


def found_in_memory(pid: int, needles: Iterable[bytes]) -> set[bytes]:
    """Those that lie anywhere in its address space."""
    left, found = set(needles), set[bytes]()
    overlap = max(map(len, left))
    fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        for mapping in mappings(pid):
            for start in range(mapping.start, mapping.end, BLOCK):
                try:
                    block = os.pread(fd, min(BLOCK + overlap, mapping.end - start), start)
                except (OSError, OverflowError):  # the kernel's own pages
                    continue
                found |= {needle for needle in left if needle in block}
    finally:
        os.close(fd)
    return found


def as_user(uid: int, gid: int, call: Callable[[], Any]) -> Any:
    """What `call` returns in a process of that user, as JSON can say it; or an OSError's name."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        try:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
            said = call()
        except OSError as error:
            said = type(error).__name__
        finally:
            os.write(write, json.dumps(said).encode())
            os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        said = json.load(file)
    os.waitpid(pid, 0)
    return said


def ask(server: Httpd, path: str) -> tuple[int, bytes]:
    """Status and body."""
    try:
        with urllib.request.urlopen(server.url + path, timeout=20) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def attempt(server: Httpd, mount: str, what: str, **details: object) -> str | None:
    """What apps/tries answers: None when it was done, or the name of the error."""
    code, body = ask(server, f"/{mount}?{urlencode({'what': what, **details})}")
    assert code == 200, (code, body)
    outcome: str | None = json.loads(body)
    return outcome


def supervised(server: Httpd, uid: int) -> int:
    """The one worker that runs as that user."""
    found = [pid for pid in server.workers() if status(pid)["Uid"].split()[0] == str(uid)]
    assert len(found) == 1, f"not one worker of {uid}: {found}"
    return found[0]


def supervisor(server: Httpd) -> int:
    """The pid, as soon as there is one: until its exec it looks like httpd, and so do its children
    like it until theirs."""
    found: list[int] = []

    def is_there() -> bool:
        found[:] = [pid for pid in server.processes() if is_supervisor(pid, server.pid)]
        return len(found) == 1

    wait_until(is_there, "there is one supervisor")
    return found[0]


def is_supervisor(pid: int, parent: int) -> bool:
    try:
        is_child = status(pid)["PPid"] == str(parent)
    except OSError:
        return False
    return is_child and "supervisor/__main__.py" in census.command(pid)


def children(server: Httpd) -> list[int]:
    """httpd's children."""
    mine = [pid for pid in census.family(server.pid) if pid != server.pid]
    program = census.command(server.pid)
    return [pid for pid in mine if census.command(pid) == program]
