# SPDX-License-Identifier: Apache-2.0
"""Deaths of our children: all are reaped, strangers too; a worker or preloader is heard out, and
why it died is found out.

What a death leads to is not known here. Up: server.py; beside it: crew.py; down: family.py and
traced.py (who has died), process.py (what it leaves behind), causes.py and cgroups.py (why).
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from . import causes, family, launch, traced
from .actions import Death
from .cgroups import Cgroups
from .hearing import Hearing
from .loop import LONGEST, Loop, now
from .process import Process, ReadRecord

REAPS_A_TURN = 256

Describe = Callable[[bytes, launch.Recipe], "Death | None"]


@dataclass(frozen=True, slots=True)
class Calls:
    """What the crew is asked, and told."""

    process_of: Callable[[int], Process | None]  # a pid's; None for a stranger
    stopped: Callable[[Process], None]  # by a signal
    gone: Callable[[Process, Death], None]


class Deaths:
    """One for the supervisor."""

    def __init__(
        self,
        loop: Loop,
        hearing: Hearing,
        cgroups: Cgroups,
        read_record: ReadRecord,
        describe: Describe,
        calls: Calls,
    ) -> None:
        self._loop = loop
        self._hearing = hearing
        self._cgroups = cgroups
        self._read_record = read_record
        self._describe = describe  # what the privileged step said; None for nothing
        self._calls = calls
        self._memory = causes.Memory(elsewhere=cgroups.oom_kills)
        self._traced = traced.Traced()

    def look(self, at: float, running: Iterable[Process]) -> None:
        """Each second: at the machine's memory, and for those of whose end we get no word."""
        self._memory.look(at)
        for worker, tracer in self._traced.look(list(running)):
            self._bury(worker, tracer)

    def reap(self) -> None:
        """All zombies, unknown ones too: else a tenant fills the table of processes. A pipe of one
        that answers late costs seconds: what is left then comes with the next turn."""
        until = now() + LONGEST
        for count, info in enumerate(family.changed_children(REAPS_A_TURN), 1):
            worker = self._calls.process_of(info.si_pid)
            if info.si_code == os.CLD_STOPPED:
                with contextlib.suppress(ChildProcessError):  # killed since: comes again, as dead
                    os.waitid(os.P_PID, info.si_pid, os.WSTOPPED | os.WNOHANG)
                if worker is not None:
                    self._calls.stopped(worker)
            elif worker is None:
                os.waitpid(info.si_pid, 0)
            else:
                self._bury(worker)
            if count == REAPS_A_TURN or now() >= until:
                self._loop.again(signal.SIGCHLD)
                return

    def _bury(self, worker: Process, tracer: int | None = None) -> None:
        """Its last words first, then what it leaves behind. tracer: who keeps it."""
        self._hearing.hear_out(worker)
        if tracer is None:
            death = worker.bury(self._read_record, now(), lambda: self._shortage(worker))
        else:
            death = worker.leave_to(tracer, self._read_record, now())
        self._calls.gone(worker, self._describe(worker.reported, worker.recipe) or death)

    def _shortage(self, worker: Process) -> str:
        """Of memory or CPU time, as the cause of a SIGKILL that was not ours."""
        if self._cgroups.was_short(worker.definition, now()):
            return causes.SHORT_CGROUP
        if launch.is_spent(worker.definition, worker.cpu_time):
            return causes.SPENT
        return causes.SHORT_MACHINE if self._memory.was_short(now()) else ""
