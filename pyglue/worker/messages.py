# SPDX-License-Identifier: Apache-2.0
"""What a worker says: numbers to the supervisor, words to the error log.

The numbers are those of docs/plan.md section 4, the ids those of docs/reference/messages.md. What
the C side says of requests and limits does not come past here (watch.c).
"""

from __future__ import annotations

import os
import struct

from .descriptors import MESSAGES

VERSION = 1  # of settings, commands and messages
HELLO, READY, FAILED, CHANGED, RELOAD, RECYCLE, LEFT, HOMELESS, FORKED = range(1, 10)
# Arguments of RECYCLE.
MAXIMUM_REQUESTS, SIGNAL, CPU_TIME_LIMIT, INACTIVITY_TIMEOUT = 1, 2, 4, 8
# Arguments of FAILED, and the ids under which the reason is told.
NO_ENGINE, OTHER_ENGINE, BAD_SETTINGS, NO_PYTHON, NO_THREADS, TOO_OLD = range(1, 7)
FAILURE_IDS = {
    NO_ENGINE: "PG2011",
    OTHER_ENGINE: "PG2012",
    BAD_SETTINGS: "PG2013",
    NO_PYTHON: "PG2014",
    NO_THREADS: "PG1150",
    TOO_OLD: "PG3035",
}
UNTOLD, NO_LOCALE, PRELOAD = "PG2015", "PG2016", "PG2017"


class Failure(Exception):
    """This worker cannot serve: the argument of FAILED, and the reason in words."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code

    def tell(self) -> None:
        """The words first: with the message the supervisor acts."""
        say(FAILURE_IDS[self.code], str(self))
        tell(FAILED, self.code)


def say(name: str, text: str) -> None:
    """To descriptor 2, which the supervisor brings into the error log."""
    os.write(2, f"{name}: {text}\n".encode("utf-8", "backslashreplace"))


def tell(kind: int, argument: int = 0, value: int = 0) -> None:
    """One message to the supervisor. Its pipe never blocks; without a reader it is moot."""
    try:
        os.write(MESSAGES, struct.pack("=IIQ", kind, argument, value))
    except OSError as error:
        say(UNTOLD, f"message {kind} could not be sent to the supervisor: {error.strerror}")
