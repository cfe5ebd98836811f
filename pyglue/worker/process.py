# SPDX-License-Identifier: Apache-2.0
"""What a worker does to its own process before it runs anything of the application's.

Privileges were dropped before this Python was exec'd. What needs C is done there (`process.c`).
"""

from __future__ import annotations

import faulthandler
import locale
import os
import signal
import time
from typing import Any

from .messages import HOMELESS, NO_LOCALE, RELOAD, say, tell
from .settings import Settings, as_bytes

# Raised in a worker for the stacks of an interpreter that it cannot have. No application uses it.
STACKS = signal.SIGRTMAX


class EarlyReload:
    """SIGUSR1 before this worker serves: by default it would end it, and with it the start. What
    was loaded by then may be what was there before, so the supervisor is told after READY."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._came_ms: int | None = None
        signal.signal(signal.SIGUSR1, self._note)

    def _note(self, number: int, _: object) -> None:
        if os.getpid() == self._pid:
            self._came_ms = int(time.monotonic() * 1000)
        else:  # a fork of the application's
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def tell(self) -> None:
        if self._came_ms is not None:
            tell(RELOAD, 0, self._came_ms)


def prepare(settings: Settings, pool: Any) -> None:
    name = settings["display_name"]
    if name is not None:
        pool.name(as_bytes(name))
    if not settings["dumpable"]:
        pool.undumpable()
    if is_homeless(settings):
        tell(HOMELESS)
    faulthandler.enable()
    faulthandler.register(STACKS)
    if settings["locale"] is not None:
        set_locale(settings["locale"])


def is_homeless(settings: Settings) -> bool:
    """It was to begin in its user's home, which cannot be entered."""
    # A supervisor from before an upgrade names no directory, and does not know the message.
    return bool(settings.get("directory", "/") != "/" and os.path.samefile(os.curdir, "/"))


def set_locale(name: str) -> None:
    try:
        locale.setlocale(locale.LC_ALL, name)
    except locale.Error as error:
        say(NO_LOCALE, f"locale={name}: {error}. The worker goes on with the C locale")
