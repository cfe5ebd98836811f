# SPDX-License-Identifier: Apache-2.0
"""Answers facts about the process that runs it as JSON."""

import contextlib
import ctypes
import json
import locale
import os
import resource
import socket
import stat
import sys
import threading

BUFFERS = (socket.SO_SNDBUF, socket.SO_RCVBUF)


def umask():
    value = os.umask(0)
    os.umask(value)
    return value


def descriptors():
    """What is open, less what another thread closes meanwhile."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink("/proc/self/fd/" + number))
    return found


def buffers():
    """Send and receive buffer of each socket of the process."""
    found = []
    for number in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as one:
                    found.append([one.getsockopt(socket.SOL_SOCKET, name) for name in BUFFERS])
    return found


def stack():
    """Size of the stack of the thread that runs this request."""
    libc = ctypes.CDLL(None)
    libc.pthread_self.restype = ctypes.c_ulong
    attributes, size = ctypes.create_string_buffer(128), ctypes.c_size_t()
    libc.pthread_getattr_np(ctypes.c_ulong(libc.pthread_self()), attributes)
    libc.pthread_attr_getstacksize(attributes, ctypes.byref(size))
    libc.pthread_attr_destroy(attributes)
    return size.value


def limits():
    names = ("RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_AS", "RLIMIT_NPROC")
    return {name: resource.getrlimit(getattr(resource, name)) for name in names}


def application(environ, start_response):
    facts = {
        "pid": os.getpid(),
        "uid": os.getuid(),
        "gid": os.getgid(),
        "groups": os.getgroups(),
        "cwd": os.getcwd(),
        "umask": umask(),
        "environ": dict(os.environ),
        "path": sys.path,
        "version": list(sys.version_info[:2]),
        "prefix": sys.prefix,
        "argv": sys.argv,
        "name": __name__,
        "file": __file__,
        "thread": threading.current_thread().name,
        "title": open("/proc/self/cmdline", "rb").read().decode("latin-1"),
        "fds": descriptors(),
        "buffers": buffers(),
        "stack": stack(),
        "limits": limits(),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "locale": locale.setlocale(locale.LC_CTYPE),
        "status": open("/proc/self/status").read(),
        "process_group": environ["mod_wsgi.process_group"],
        "application_group": environ["mod_wsgi.application_group"],
        "callable": environ["mod_wsgi.callable_object"],
        "multithread": environ["wsgi.multithread"],
        "multiprocess": environ["wsgi.multiprocess"],
        "run_once": environ["wsgi.run_once"],
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(facts).encode()]


other = application
