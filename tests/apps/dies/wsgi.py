# SPDX-License-Identifier: Apache-2.0
"""Ends its process as the query says: how, and whether before or after the first block."""

import ctypes
import os
import signal

WAYS = {
    "exit": lambda: os._exit(3),
    "segv": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
}


def application(environ, start_response):
    way, _, when = environ["QUERY_STRING"].partition("&")
    if when == "later":
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"first"
    WAYS[way]()
