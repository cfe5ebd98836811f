# SPDX-License-Identifier: Apache-2.0
"""Leaves something behind that runs on after the response, as the query says, and answers."""

import atexit
import ctypes
import multiprocessing
import os
import signal
import subprocess
import threading
import time

LONG = 300


def fork():
    """As daemons do it, but without closing a descriptor; the child ends by exit handlers."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(LONG)
        os._exit(0)
    os.wait()


def fork_by_the_kernel():
    """libc knows nothing of it and runs no handler. Python's lock stays with the one who calls."""
    clone = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
    if ctypes.PyDLL(None).syscall(clone, signal.SIGCHLD, 0, 0, 0, 0) == 0:
        time.sleep(LONG)
        os._exit(0)


def fork_and_exit():
    """The child runs Python's own end, with what was registered for the worker's."""
    pid = os.fork()
    if pid == 0:
        raise SystemExit
    os.waitpid(pid, 0)


def thread():
    threading.Thread(target=time.sleep, args=(LONG,)).start()


def multi():
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(LONG,)).start()


WAYS = {
    "fork": fork,
    "fork-by-the-kernel": fork_by_the_kernel,
    "fork-and-exit": fork_and_exit,
    "popen": lambda: subprocess.Popen(["sleep", str(LONG)], close_fds=False),
    "detached": lambda: subprocess.Popen(["sleep", str(LONG)], start_new_session=True),
    "multiprocessing": multi,
    "thread": thread,
    "atexit": lambda: atexit.register(time.sleep, LONG),
}


def application(environ, start_response):
    WAYS[environ["QUERY_STRING"]]()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
