# SPDX-License-Identifier: Apache-2.0
"""`pyglue reload GROUP`: new workers for one process group, without a failed request.

One worker of the group is sent SIGUSR1, and asks the supervisor for all of it to be replaced. The
kernel says who may: root, and the user that the group runs as. What becomes of it is then looked
at, by anybody's means (running.py)."""

import argparse
import contextlib
import os
import pwd
import select
import signal
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from pyglue.cli.running import RELOADING, Machine, Worker
from pyglue.errors import PyglueError
from pyglue.supervisor.family import open_pidfd

TURN = 0.1
IS_LATE = (
    "The error log of the group's server says why: often a script that does not load, which keeps "
    "the old workers in service"
)


def add(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "reload",
        help="start new workers of a process group, then end the old ones",
        description="Start new workers of a running process group, and end the old ones as soon as "
        "the new ones have loaded the application. Root may reload every group, a user his own.",
    )
    parser.add_argument("group", metavar="GROUP", help="name of the process group")
    parser.add_argument(
        "-f", dest="file", metavar="FILE", help="of several httpds, the one started with -f FILE"
    )
    parser.add_argument(
        "--httpd", type=int, metavar="PID", help="of several httpds, the one with this pid"
    )
    parser.add_argument(
        "--if-running",
        action="store_true",
        help="be content where the group has no worker, as one with processes=0-N when it is idle",
    )
    parser.add_argument(
        "--no-wait", action="store_true", help="do not wait until the new workers serve"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long to wait (%(default)s)",
    )
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    machine = Machine()
    end = time.monotonic() + chosen.timeout
    supervisor = choose(machine, chosen)
    if supervisor is None:
        print(missing(machine.workers(), chosen.group))
        return 0
    old = tell(machine, chosen.group, supervisor, end)
    print(f"process group '{chosen.group}': workers {pids(old)} are to be replaced", flush=True)
    if chosen.no_wait:
        return 0
    new = wait(machine, chosen.group, supervisor, old, end)
    print(f"process group '{chosen.group}': workers {pids(new)} serve")
    return 0


# Which group.


def choose(machine: Machine, chosen: argparse.Namespace) -> int | None:
    """The supervisor whose group is meant. None: no worker runs, and that is good."""
    running = machine.workers()
    named = (w for w in running if w.group == chosen.group)
    found = {w.supervisor: w for w in named if is_of(machine, w, chosen)}
    if not found and chosen.if_running:
        return None
    if not found:
        raise PyglueError(missing(running, chosen.group))
    mine = {pid: w for pid, w in found.items() if may_signal(w)}
    if not mine:
        other = next(iter(found.values()))
        raise PyglueError(
            f"process group '{chosen.group}' runs as user {user(other.uid)}: only that user and "
            "root can reload it" + hint([w for w in running if may_signal(w)])
        )
    if len(mine) > 1:
        which = ", ".join(f"--httpd {w.httpd} ({command(machine, w.httpd)})" for w in mine.values())
        raise PyglueError(
            f"process group '{chosen.group}' runs in more than one httpd. Say which: {which}"
        )
    return next(iter(mine))


def is_of(machine: Machine, worker: Worker, chosen: argparse.Namespace) -> bool:
    """Is it of the httpd that was named, if one was?"""
    if chosen.httpd is not None and worker.httpd != chosen.httpd:
        return False
    return chosen.file is None or was_started_with(machine.command(worker.httpd), chosen.file)


def was_started_with(command: Sequence[bytes], file: str) -> bool:
    wanted = os.path.realpath(os.fsencode(file))
    named = [b for a, b in pairwise(command) if a == b"-f"]
    named += [a[2:] for a in command if a.startswith(b"-f") and len(a) > 2]
    return any(os.path.isabs(name) and os.path.realpath(name) == wanted for name in named)


def may_signal(worker: Worker) -> bool:
    """As the kernel will answer."""
    return os.geteuid() in (0, worker.uid) or os.getuid() == worker.uid


def missing(running: list[Worker], group: str) -> str:
    told = f"no worker of a process group '{group}' runs"
    named = sorted({w.group for w in running if w.group and may_signal(w)})
    if named:
        told += f"; groups with workers: {', '.join(named)}"
    return (
        f"{told}{hint(running)}. A group without a worker needs no reload: its next one loads what "
        "is there (--if-running takes that for success)"
    )


def hint(running: list[Worker]) -> str:
    """The group that is meant may be one of those whose name is hidden."""
    hidden = sorted(w.pid for w in running if not w.group)
    if not hidden:
        return ""
    return (
        f". Of workers {', '.join(map(str, hidden))} the group cannot be seen from here "
        "(display-name=): as root it can; or send SIGUSR1 to one of them"
    )


def user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def command(machine: Machine, pid: int) -> str:
    return b" ".join(machine.command(pid)).decode("utf-8", "backslashreplace") or "not to be seen"


# The signal.


def tell(machine: Machine, group: str, supervisor: int, end: float) -> list[Worker]:
    """Waits until one of them minds the signal, and sends it. Returns those that run then."""
    while True:
        all_of_it = of_group(machine, group, supervisor)
        for worker in all_of_it:
            if worker.state in RELOADING and signalled(machine, worker):
                return all_of_it
        if time.monotonic() >= end:
            raise PyglueError(
                f"process group '{group}' has no worker that could be told in time. " + IS_LATE
            )
        time.sleep(TURN)


def of_group(machine: Machine, group: str, supervisor: int) -> list[Worker]:
    return [w for w in machine.workers() if (w.group, w.supervisor) == (group, supervisor)]


def signalled(machine: Machine, worker: Worker) -> bool:
    """Sends SIGUSR1 to this worker, and to no process that came by its pid later."""
    try:
        pidfd = open_pidfd(worker.pid)
    except ProcessLookupError:
        return False
    try:
        again = machine.worker(worker.pid)  # whoever it is, it is who pidfd means, or has died
        if again is None or (again.group, again.supervisor) != (worker.group, worker.supervisor):
            return False
        if again.state not in RELOADING:
            return False
        return send(worker.pid, pidfd)
    except ProcessLookupError:
        return False
    except PermissionError:
        raise PyglueError(
            f"worker {worker.pid} may not be signalled: process group '{worker.group}' runs as "
            f"user {user(worker.uid)}"
        ) from None
    finally:
        if pidfd >= 0:
            os.close(pidfd)


def send(pid: int, pidfd: int) -> bool:
    if pidfd < 0:  # none is to be had here
        os.kill(pid, signal.SIGUSR1)
        return True
    if select.select([pidfd], [], [], 0)[0]:
        return False
    signal.pidfd_send_signal(pidfd, signal.SIGUSR1)
    return True


# What becomes of it.


def wait(
    machine: Machine, group: str, supervisor: int, old: list[Worker], end: float
) -> list[Worker]:
    """Until no old worker is in service and as many new ones are. Old ones that finish what they
    run may take as long as that takes."""
    before = {worker.pid for worker in old}
    wanted = sum(worker.state != "leaving" for worker in old)
    while True:
        running = of_group(machine, group, supervisor)
        staying = [w for w in running if w.pid in before and w.state != "leaving"]
        new = [w for w in running if w.pid not in before]
        serving = [w for w in new if w.state == "ready"]
        is_late = time.monotonic() >= end
        if serving and not staying and (is_late or len(serving) >= wanted):
            return serving
        failed = [w for w in new if w.state == "unloaded"]
        if failed:
            raise PyglueError(unloaded(group, failed, staying))
        if is_late:
            raise PyglueError(late(group, staying, new))
        with contextlib.suppress(InterruptedError):
            time.sleep(TURN)


def unloaded(group: str, failed: list[Worker], staying: list[Worker]) -> str:
    kept = f"workers {pids(staying)} stay in service" if staying else "requests are answered 500"
    return (
        f"process group '{group}': new worker {pids(failed)} could not load all scripts, and "
        f"{kept}. The error log of the group's server has the traceback"
    )


def late(group: str, staying: list[Worker], new: list[Worker]) -> str:
    told = f"process group '{group}' was not reloaded in time"
    if staying:
        told += f": workers {pids(staying)} are in service yet"
    if new:
        told += f"; new ones: {', '.join(f'{w.pid} ({w.state})' for w in new)}"
    return f"{told}. {IS_LATE}"


def pids(workers: list[Worker]) -> str:
    return ", ".join(str(worker.pid) for worker in workers)
