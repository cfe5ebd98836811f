# SPDX-License-Identifier: Apache-2.0
"""An instance's error log: lines at warn or above that no test declared are failures."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

ENTRY = re.compile(r"^\[[^]]+\] \[(?P<module>\w*):(?P<level>\w+)\] \[pid [^]]+\] (?P<text>.*)$")
# httpd's event MPM, when a connection becomes idle or is closed while the child stops: its main
# thread has closed pollset and sockets under the others (close_worker_sockets).
NOISE = re.compile(
    r"AH03093: process_socket: apr_pollset_add failure for keep alive"
    r"|AH03092: process_lingering_close: apr_pollset_add failure"
    r"|AH00468: error closing socket"
)
QUIET = {"notice", "info", "debug"}
# httpd tells of a child's crash by a notice: AH00051, AH00052. Where children end by SIGTERM the
# event MPM closes sockets of connections whose memory its other threads may have given back
# meanwhile (close_worker_sockets), and crashes: twice in some three thousand stops on a busy
# machine: its main thread in apr_os_sock_get, another one in apr_allocator_destroy.
CRASH = re.compile(r"exit signal (Segmentation|Abort|Bus|Illegal|Floating|Bad system)")
# What a declared traceback brings along: its own lines, and the product's line that announces it.
TRACEBACK = re.compile(
    r"Traceback \(most recent call last\)|(^|\] )\s+(File \"|\S.*)|The above exception|"
    r"During handling of|] PG3\d{3}: script '[^']*'"
)
DEADLINE = 10.0


def is_quiet(level: str) -> bool:
    return level in QUIET or level.startswith("trace")


class ErrorLog:
    """Reads forward from its mark; `expect` and `allow` hold until the next check."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mark = 0
        self._ending: int | None = None  # size of the log when children were told to end
        self._expected: list[re.Pattern[str]] = []
        self._allowed: list[re.Pattern[str]] = []

    def expect(self, pattern: str) -> None:
        """A line that must come, and may come more than once."""
        self._expected.append(re.compile(pattern))

    def allow(self, pattern: str) -> None:
        """A line that may come."""
        self._allowed.append(re.compile(pattern))

    def expect_traceback(self, last_line: str) -> None:
        """A Python traceback that ends in a line with this text."""
        self.expect(re.escape(last_line))
        self._allowed.append(TRACEBACK)

    def text(self) -> str:
        """All since the mark."""
        return self._since(self._mark)

    def children_end(self) -> None:
        """By SIGTERM, from now on: a crash is httpd's own."""
        if self._ending is None:
            self._ending = self._size()

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _since(self, offset: int) -> str:
        if not self.path.exists():
            return ""
        with self.path.open("rb") as log:
            log.seek(offset)
            return log.read().decode("utf-8", "backslashreplace")

    def wait_for(self, pattern: str, seconds: float = DEADLINE) -> str:
        """The first line since the mark that matches, as soon as it is there."""
        deadline = time.monotonic() + seconds
        while True:
            found = re.search(f"^.*(?:{pattern}).*$", self.text(), re.MULTILINE)
            if found:
                return found.group()
            assert time.monotonic() < deadline, f"no line {pattern!r} in:\n{self.text()}"
            time.sleep(0.01)

    def check(self) -> None:
        """Every expected line is there, every other one is harmless or allowed. Moves the mark."""
        try:
            for pattern in self._expected:
                self.wait_for(pattern.pattern)
            undeclared = list(self._undeclared())
            assert not undeclared, "undeclared lines in the error log:\n" + "\n".join(undeclared)
        finally:
            self._mark, self._ending = self._size(), None
            self._expected.clear()
            self._allowed.clear()

    def _undeclared(self) -> Iterator[str]:
        declared = [NOISE, *self._expected, *self._allowed]
        lines = self.text().splitlines()
        late = [] if self._ending is None else self._since(self._ending).splitlines()
        for i, line in enumerate(lines):
            entry = ENTRY.match(line)
            is_ending = i >= len(lines) - len(late)
            is_crash = entry and CRASH.search(entry["text"]) and not is_ending
            if entry and is_quiet(entry["level"]) and not is_crash:
                continue
            if line.strip() and not any(pattern.search(line) for pattern in declared):
                yield line
