# SPDX-License-Identifier: Apache-2.0
"""Runs a program through the jail and tells what came of it; the tests' view of pyglue._jail.

As a script it makes one launch described by JSON on its command line, so that strace can inject
failures into that launch alone, and so that it can be run by a user other than root.
"""

import json
import os
import select
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyglue import _jail

UID, GID = 61234, 61235  # numbers that no user has
DEADLINE = 20.0

# What the tenant's code would say of itself.
LOOK = """
import json, os, resource, signal
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
def stay(call, *args):
    try:
        call(*args)
        return False
    except PermissionError:
        return True
mask = os.umask(0)
print(json.dumps({
    "uids": os.getresuid(), "gids": os.getresgid(), "groups": sorted(os.getgroups()),
    "stays": stay(os.setuid, 0) and stay(os.setgid, 0) and stay(os.setgroups, [0]),
    "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")),
    "environ": sorted(open("/proc/self/environ").read().split("\\0")[:-1]),
    "umask": mask, "cwd": os.getcwd(), "sid": os.getsid(0) == os.getpid(),
    "nice": os.getpriority(os.PRIO_PROCESS, 0), "files": resource.getrlimit(resource.RLIMIT_NOFILE),
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    **{key: status[key] for key in ("NoNewPrivs", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
                                    "SigBlk", "SigIgn", "SigCgt", "ShdPnd")},
}), flush=True)
"""  # noqa: E501
PYTHON = os.path.realpath("/usr/bin/python3")


@dataclass(frozen=True)
class Outcome:
    """What came of a launch: the step that failed with its errno, or what the program said."""

    failed: tuple[str, int] | None
    said: str
    status: int  # exit status; negative: the signal
    took_pidfd: bool

    @property
    def look(self) -> dict[str, Any]:
        assert self.failed is None, self.failed
        return dict(json.loads(self.said))


@dataclass
class Launch:
    """Arguments of _jail.spawn with defaults under which all steps have something to do."""

    argv: Sequence[str] = (PYTHON, "-I", "-S", "-c", LOOK)
    executable: str = PYTHON
    env: Sequence[str] = ("PATH=/usr/bin", "LANG=C.UTF-8")
    privileged: bool = True
    options: dict[str, Any] = field(default_factory=dict)

    def spawn(self, fds: Sequence[int]) -> tuple[int, int, int]:
        arguments: dict[str, Any] = {
            "argv": [text.encode() for text in self.argv],
            "executable": self.executable.encode(),
            "env": [text.encode() for text in self.env],
            "fds": fds,
            "uid": UID,
            "gid": GID,
            "groups": [GID, 61236],
            "privileged": self.privileged,
        }
        for key, value in self.options.items():
            arguments[key] = os.fsencode(value) if isinstance(value, (str, Path)) else value
        folders = arguments.pop("cgroups", ())  # for a launch that is described by JSON
        opened = [os.open(f"{folder}/cgroup.procs", os.O_RDWR | os.O_CLOEXEC) for folder in folders]
        if folders:
            arguments["cgroup_procs"] = opened
        try:
            return _jail.spawn(**arguments)
        finally:
            for fd in opened:
                os.close(fd)

    def run(self) -> Outcome:
        said, say = os.pipe()
        null = os.open("/dev/null", os.O_RDONLY)
        try:
            pid, pidfd, report = self.spawn([null, say, say])
        except BaseException:
            os.close(said)
            raise
        finally:
            os.close(say)
            os.close(null)
        deadline = time.monotonic() + DEADLINE
        failed = read_all(report, deadline)
        text = read_all(said, deadline)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if pidfd != -1:
            os.close(pidfd)
        described = _jail.describe(failed) if failed else None
        return Outcome(described, text.decode(), status, pidfd != -1)


def read_all(fd: int, deadline: float) -> bytes:
    """To end-of-file, or to the deadline; closes."""
    blocks: list[bytes] = []
    try:
        while select.select([fd], [], [], max(0, deadline - time.monotonic()))[0]:
            if not (block := os.read(fd, 4096)):
                return b"".join(blocks)
            blocks.append(block)
        raise TimeoutError("the child neither ran nor reported")
    finally:
        os.close(fd)


def main() -> None:
    """Prints {"failed", "said", "status"} or {"refused"} of the launch given as JSON.

    With a second argument it first says so and waits for a line: strace attaches meanwhile.
    """
    settings = json.loads(sys.argv[1])
    if sys.argv[2:]:
        os.write(1, b"ready\n")
        os.read(0, 1)
    try:
        outcome = Launch(**settings).run()
        told = {"failed": outcome.failed, "said": outcome.said, "status": outcome.status}
    except (OSError, ValueError) as error:
        told = {"refused": f"{type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
