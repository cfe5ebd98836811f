# SPDX-License-Identifier: Apache-2.0
"""Uses as much of something as it is asked for, and answers how far it came: JSON."""

import json
import mmap
import os
import resource
import signal
import time
from urllib.parse import parse_qsl

MOST = 300  # processes, whatever the kernel allows


def memory(size):
    """True: it was had."""
    try:
        return len(bytearray(int(size))) == int(size)
    except MemoryError:
        return False


def cpu(milliseconds):
    """The pid, after so much CPU time of this thread."""
    end = time.thread_time() + int(milliseconds) / 1000
    while time.thread_time() < end:
        pass
    return os.getpid()


def all_cpu():
    """Ends in no other way than by the hard limit: the soft one asks this process to end."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))
    while True:
        pass


def breed(count):
    """Children and theirs, until one cannot be made; they stay."""
    while (made := int.from_bytes(count[:4], "little")) < MOST:
        count[:4] = (made + 1).to_bytes(4, "little")
        try:
            if os.fork() == 0:
                signal.alarm(60)
                breed(count)
                while True:
                    signal.pause()
        except BlockingIOError:
            return True
    return False


def processes():
    """True: no more could be made."""
    return breed(mmap.mmap(-1, 4096))


def stray():
    """The pid of a process that has left its session and its parent."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(tell, str(os.getpid()).encode())
            signal.alarm(60)
            while True:
                signal.pause()
        os._exit(0)
    os.waitpid(child, 0)
    return int(os.read(told, 20))


def child(size):
    """How a child ended that wanted so much memory: the number of the signal."""
    pid = os.fork()
    if pid == 0:
        memory(size)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


KINDS = {
    "memory": memory,
    "child": child,
    "cpu": cpu,
    "all-cpu": lambda _: all_cpu(),
    "processes": lambda _: processes(),
    "stray": lambda _: stray(),
}


def application(environ, start_response):
    ((what, amount),) = parse_qsl(environ["QUERY_STRING"], keep_blank_values=True)
    done = KINDS[what](amount)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(done).encode()]
