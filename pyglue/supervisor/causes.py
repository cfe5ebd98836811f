# SPDX-License-Identifier: Apache-2.0
"""Why a worker ended and what it ran then, in words.

A cause is one clause that begins with its verb and tells the most important first: children have
room for its first words only (PYGLUE_CAUSE_SIZE). What a worker's record says is a stranger's
text: it is escaped here, and bounded in number and length.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

NAMED = 10  # requests in one line
TEXT_MAX = 200  # characters of each, escaped
OOM_SECONDS = 10.0  # between the kernel's killing and the end of a large process

SIGNALS = {
    signal.SIGSEGV: "a fault in native code, or a stack that overflowed",
    signal.SIGBUS: "a fault in native code, or a mapped file that was cut short",
    signal.SIGABRT: "native code, or Python itself, gave up",
    signal.SIGILL: "native code for another processor",
    signal.SIGFPE: "native code divided by zero",
    signal.SIGSYS: "a system call that it may not make",
    signal.SIGXCPU: "its limit of CPU time is used up",
    signal.SIGXFSZ: "it wrote a file beyond its limit of file size",
}
STATUSES = {
    120: "Python could not write its last output",
    126: "its Python could not be executed",
    127: "its Python, or a library that it needs, could not be found",
}
# Why the kernel may have sent SIGKILL.
SHORT_MACHINE = ", likely by the kernel, which ran out of memory"
SPENT = ", likely because all the CPU time that cpu-time-limit leaves it was used up"
SHORT_CGROUP = " (its cgroup was out of memory)"
ENDINGS = {  # pyglue_record_ending
    1: "startup-timeout had passed, and no script was loaded",
    2: "deadlock-timeout had passed, and code that ran in it kept the Python interpreter",
}
SHELL = 128  # a wrapper script in the place of Python adds this to a signal's number


@dataclass(frozen=True, slots=True)
class Running:
    """A request that had not ended, by a worker's word."""

    number: int
    seconds: float | None = None  # that it had run; None: not told, or no sound time
    id: bytes = b""
    line: bytes = b""  # method and path


def cause_of(status: int, ending: int = 0, shortage: Callable[[], str] = str) -> str:
    """Of waitpid's status, the record's `ending`, and what the kernel says of memory: SHORT_*."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        why = ENDINGS.get(ending) or STATUSES.get(code) or _of_shell(code)
        return f"exited with status {code}" + (f": {why}" if why else "")
    words = f"was killed by {_signal_name(-code)}"
    if os.WCOREDUMP(status):
        words += " (core dumped)"
    if -code == signal.SIGKILL:
        return words + shortage()
    why = SIGNALS.get(-code)  # type: ignore[call-overload]
    return words + (f": {why}" if why else "")


def cause_of_traced(tracer: int, ending: int = 0) -> str:
    """Of one that has ended, while its status is known to this process alone; 0: to one that cannot
    be seen from here."""
    who = f"process {tracer}" if tracer else "a process of another PID namespace"
    told = f"ended, but how cannot be told: {who} traces it and keeps it"
    return f"{told}; before, {ENDINGS[ending]}" if ending in ENDINGS else told


def _of_shell(code: int) -> str:
    is_signal = code > SHELL and code - SHELL in set(signal.Signals)
    return f"what a shell says of {_signal_name(code - SHELL)}" if is_signal else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def running(
    told: Sequence[tuple[int, int, bytes, bytes]], now: float, life: float
) -> tuple[Running, ...]:
    """What the record told at its worker's death, the longest running first. A time before the
    worker's own start, or to come, is none."""
    found = []
    for number, start_ms, name, line in told:
        seconds = now - start_ms / 1000
        found.append(Running(number, seconds if -0.001 <= seconds <= life else None, name, line))
    return tuple(sorted(found, key=lambda one: -(one.seconds or 0.0)))


def named(requests: Sequence[Running]) -> str:
    """A sentence for the end of a line; nothing if nothing ran."""
    if not requests:
        return ""
    told = ", ".join(map(_named, requests[:NAMED]))
    more = len(requests) - NAMED
    return f". It ran: {told}" + (f", and {more} more" if more > 0 else "")


def _named(request: Running) -> str:
    line = _shown(request.line) or f"request {request.number}"
    details = [f"id {_shown(request.id)}"] if request.id else []
    if request.seconds is not None:
        details.append(f"for {abs(request.seconds):.1f} s")
    return line + (f" ({', '.join(details)})" if details else "")


def _shown(data: bytes) -> str:
    """Nothing that turns, hides or breaks the line; a client may have written it."""
    text = data.decode("utf-8", "backslashreplace")
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(shown)[:TEXT_MAX]


def oom_kills() -> int:
    """How many processes of this machine the kernel has killed for want of memory."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


class Memory:
    """Whether the kernel was short of memory lately: it counts those that it killed, but does not
    say who they were. `elsewhere` counts those among them of which somebody else knows why."""

    def __init__(
        self, count: Callable[[], int] = oom_kills, elsewhere: Callable[[], int] = lambda: 0
    ) -> None:
        self._count, self._elsewhere = count, elsewhere
        self._last, self._last_elsewhere = count(), elsewhere()
        self._rose_at = float("-inf")

    def look(self, now: float) -> None:
        """Each second."""
        count = self._count()
        if count > self._last:
            elsewhere = self._elsewhere()
            if count - self._last > elsewhere - self._last_elsewhere:
                self._rose_at = now
            self._last_elsewhere = elsewhere
        self._last = count

    def was_short(self, now: float) -> bool:
        self.look(now)
        return now - self._rose_at <= OOM_SECONDS
