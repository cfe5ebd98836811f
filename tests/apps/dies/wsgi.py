# SPDX-License-Identifier: Apache-2.0
"""Ends its process as the query says: how, and whether before or after the first block."""

import ctypes
import os
import signal
import sys


def overflow(*_):
    """Native code that calls itself by way of Python, without end."""
    sys.setrecursionlimit(10**9)
    return again(None)


again = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(overflow)

WAYS = {
    "exit": lambda: os._exit(3),
    "zero": lambda: os._exit(0),
    "status": lambda: os._exit(127),
    "lock": lambda: ctypes.PyDLL(None).sleep(60),
    "overflow": overflow,
    "memory": lambda: bytearray(b"x") * (1 << 30),
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
