# SPDX-License-Identifier: Apache-2.0
"""System calls of an httpd family by strace, and as whom each was made."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.client import wait_until

LINE = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(.*)$")
IDENTITY = "setresuid,setuid,execve,clone,clone3,fork,vfork,exit_group"


@dataclass(frozen=True)
class Call:
    pid: int
    name: str
    text: str
    as_root: bool


def calls(log: Path) -> Iterator[Call]:
    """In their order. A process is root's until it has changed its user; so are its children."""
    changed: set[int] = set()
    for line in log.read_text(errors="replace").splitlines():
        match = LINE.match(line)
        if match is None:
            continue
        pid, name, text = int(match[1]), match[2], match[3]
        yield Call(pid, name, text, pid not in changed)
        if name in ("setresuid", "setuid") and text.endswith("= 0") and "(0" not in text:
            changed.add(pid)
        if name in ("clone", "clone3", "fork", "vfork") and pid in changed:
            born = re.search(r"= (\d+)$", text)
            changed |= {int(born[1])} if born else set()


def naming(log: Path, folder: Path) -> list[Call]:
    """The calls that name something below a folder, or the folder itself."""
    return [call for call in calls(log) if f'"{folder}' in call.text]


@contextmanager
def strace(pid: int, log: Path, *options: str) -> Iterator[None]:
    """While the block runs, the process, its threads and all that it starts meanwhile."""
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", "-s", "300", "-o", log, "-p", str(pid), *options],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_until(lambda: is_traced(pid) or tracer.poll() is not None, "strace attaches")
        assert tracer.poll() is None, tracer.communicate()[1]
        yield
    finally:
        tracer.terminate()  # it lets go of all
        tracer.communicate(timeout=20)


def is_traced(pid: int) -> bool:
    """Each of its threads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)


def files_of(command: Sequence[str], log: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; the log holds every call that names a file."""
    return subprocess.run(
        ["strace", "-f", "-qq", "-s", "300", "-e", f"trace=%file,{IDENTITY}", "-o", log, *command],
        text=True, timeout=60, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
