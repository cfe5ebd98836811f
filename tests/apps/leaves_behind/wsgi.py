# SPDX-License-Identifier: Apache-2.0
"""Leaves something behind that runs on after the response, as the query says, and answers."""

import atexit
import ctypes
import errno
import multiprocessing
import os
import signal
import struct
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


def no_more_threads():
    """The kernel gives this process none from now on, as where a bound of processes is reached."""
    seccomp, clone = {"x86_64": (317, 56), "aarch64": (277, 220)}[os.uname().machine]
    all_threads = 1
    refuse, allow, clone3 = 0x50000 | errno.EAGAIN, 0x7FFF0000, 435
    load, equal, end = 0x20, 0x15, 0x06  # of classic BPF: ld [k], jeq k, ret k
    steps = [(load, 0, 0, 0), (equal, 1, 0, clone), (equal, 0, 1, clone3)]
    steps += [(end, 0, 0, refuse), (end, 0, 0, allow)]
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    held = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(held))
    libc = ctypes.CDLL(None)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.syscall(seccomp, 1, all_threads, program) == 0
    try:
        threading.Thread(target=int).start()
    except RuntimeError:
        atexit.register(print, "ended in good order")


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
    "no-more-threads": no_more_threads,
    "atexit": lambda: atexit.register(time.sleep, LONG),
}


def application(environ, start_response):
    WAYS[environ["QUERY_STRING"]]()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
