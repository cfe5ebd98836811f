# SPDX-License-Identifier: Apache-2.0
"""Which applications the workers of this group have loaded, for those that come after them.

A plan knows only scripts that the configuration names; WSGIScriptAliasMatch, handlers and %{ENV}
lead to others. What was loaded once is loaded by each new worker before it is ready, so that a
reload keeps the old workers if one of these is broken (SUCCESSION.md section 3). The memory is made
by the supervisor, fixed in size, and never read by it: all workers of one identity write and read
it.

One JSON list a line, [script, application group, callable, reloading], each text as latin-1; behind
the last line are zeros.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

Script = dict[str, Any]  # as a plan has it
KEYS = ("script", "application_group", "callable", "reloading")
KINDS = (str, str, str, bool)


class Loaded:
    """The memory behind `fd`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._size = os.fstat(fd).st_size

    def read(self) -> list[Script]:
        """What stands there, less what nobody can have written and files that are gone."""
        lines = self._text().splitlines()
        return [script for script in map(_parse, lines) if script is not None and _exists(script)]

    def add(self, scripts: Iterable[Script]) -> bool:
        """Writes down those that are not there. False: another worker is writing, try again."""
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        try:
            text = self._text()
            known = set(text.splitlines())
            fresh = [line for line in map(_line, scripts) if line not in known]
            self._append(len(text), fresh)
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)
        return True

    def _text(self) -> bytes:
        return os.pread(self._fd, self._size, 0).partition(b"\0")[0]

    def _append(self, end: int, lines: list[bytes]) -> None:
        """What does not fit is left out: it is loaded when it is asked for, as ever."""
        for line in lines:
            if end + len(line) + 1 < self._size:
                end += os.pwrite(self._fd, line + b"\n", end)


def scripts_of(engine: Any) -> Iterator[Script]:
    """What this process has loaded."""
    watched = engine.noted()
    for script, group, name in engine.loaded():
        values = (*(text.decode("latin-1") for text in (script, group, name)),)
        yield dict(zip(KEYS, (*values, os.fsdecode(script) in watched), strict=True))


def _line(script: Script) -> bytes:
    return json.dumps([script[key] for key in KEYS]).encode()


def _parse(line: bytes) -> Script | None:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, list) or [type(value) for value in values] != list(KINDS):
        return None
    texts = [value for value in values if isinstance(value, str)]
    if any("\0" in text or max(text, default="") > "\xff" for text in texts):
        return None
    return dict(zip(KEYS, values, strict=True))


def _exists(script: Script) -> bool:
    """One that was removed is nothing that fails to load."""
    return os.path.exists(script["script"].encode("latin-1"))
