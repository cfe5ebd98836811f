# SPDX-License-Identifier: Apache-2.0
"""What the supervisor wants of this worker: its settings, read once (docs/plan.md section 4), and
turned into what the interpreter and the threads are given.

A supervisor from before an upgrade does not say all of them. Texts are bytes, read as latin-1.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from typing import Any

from .descriptors import CONTROL, read_exactly
from .messages import BAD_SETTINGS, TOO_OLD, VERSION, Failure

LONGEST_MS = 0xFFFFFFFF  # 49 days
OWN_GIL_SINCE = (3, 12)
INTERPRETER_SETTINGS = (
    *("group", "processes", "threads", "python_path"),
    *("home", "script_uid", "script_gid"),
    *("interpreters", "own_gil", "free_threading", "interpreter_options"),
)
# Settings of the pool (the table in settings.c). What is not said is 0.
AS_THEY_ARE = (
    *("number", "threads", "peer_uid", "request_max", "send_buffer_size", "receive_buffer_size"),
    *("pass_descriptors", "stack_size", "strict_reload", "rss_limit"),
)
DURATIONS = (
    *("socket_timeout", "startup_timeout", "request_timeout", "interrupt_timeout"),
    *("deadlock_timeout", "shutdown_timeout", "queue_timeout"),
)

Settings = dict[str, Any]


def read_settings() -> Settings:
    (size,) = struct.unpack("=I", read_exactly(CONTROL, 4))
    try:
        settings = json.loads(read_exactly(CONTROL, size))
        version = settings["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise Failure(BAD_SETTINGS, f"settings could not be read: {error!r}") from None
    if version != VERSION:
        raise Failure(BAD_SETTINGS, f"settings are of version {version}, not {VERSION}")
    return dict(settings)


def check_python(settings: Settings) -> None:
    """Can this Python do what the group wants of it?"""
    if settings.get("interpreters", 1) > 1 and sys.version_info < OWN_GIL_SINCE:
        raise Failure(
            TOO_OLD,
            f"interpreters={settings['interpreters']} needs Python 3.12 or later, and "
            f"{sys.executable} is {sys.version.split()[0]}: give the group another by python=, or "
            "use processes= instead",
        )


def package_of(settings: Settings) -> str:
    """The folder of the package."""
    return os.fsdecode(as_bytes(settings["package"]))


def for_interpreter(settings: Settings) -> str:
    """What pyglue.loader.interpreter.prepare gets: docs/bridge.md 8. It decodes the texts."""
    return json.dumps({name: settings.get(name) for name in INTERPRETER_SETTINGS})


def for_pool(settings: Settings) -> dict[str, Any]:
    """What the threads that serve the socket are started with."""
    return {
        "key": bytes.fromhex(settings["key"]),
        "maximum_requests": scattered(settings["maximum_requests"]),
        "restart_interval_ms": scattered(round(settings.get("restart_interval", 0) * 1000)),
        **{name: int(settings.get(name, 0)) for name in AS_THEY_ARE},
        **{f"{name}_ms": milliseconds(settings.get(name, 0)) for name in DURATIONS},
    }


def as_bytes(text: str) -> bytes:
    return text.encode("latin-1")


def milliseconds(seconds: float) -> int:
    return min(round(seconds * 1000), LONGEST_MS)


def scattered(bound: int) -> int:
    """Up to a tenth below it: the workers of a group began together, and are not to go together."""
    return bound - int.from_bytes(os.urandom(4), sys.byteorder) % (bound // 10 + 1)
