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
PTRACE_SEIZE = 0x4206
PR_SET_PTRACER, ANYBODY = 0x59616D61, ctypes.c_ulong(-1)


def fork():
    """As daemons do it, but without closing a descriptor; the child ends by exit handlers."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(LONG)
        os._exit(0)
    os.wait()


def tracer():
    """A process out of the session that traces all threads of this one and waits for none: while it
    lives nobody can reap them."""
    libc, worker = ctypes.CDLL(None), os.getpid()
    libc.prctl(PR_SET_PTRACER, ANYBODY, 0, 0, 0)
    done, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for thread in map(int, os.listdir(f"/proc/{worker}/task")):
                os.write(write, b"x" if libc.ptrace(PTRACE_SEIZE, thread, 0, 0) else b".")
            os.close(write)
            time.sleep(LONG)
        os._exit(0)
    os.wait()
    os.close(write)
    with open(done, "rb") as said:
        assert b"x" not in said.read(64)


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
    "tracer": tracer,
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
