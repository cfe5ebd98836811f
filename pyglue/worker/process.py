# SPDX-License-Identifier: Apache-2.0
"""What a worker does to its own process before it runs anything of the application's.

Privileges were dropped before this Python was exec'd. What needs C is done there (`process.c`).
"""

from __future__ import annotations

import faulthandler
import locale
import os
import signal
from typing import Any

from .messages import HOMELESS, NO_LOCALE, say, tell
from .settings import Settings, as_bytes

# Raised in a worker for the stacks of an interpreter that it cannot have. No application uses it.
STACKS = signal.SIGRTMAX


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
