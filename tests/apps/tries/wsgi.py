# SPDX-License-Identifier: Apache-2.0
"""Tries what a tenant may not do, and answers how it went: JSON, None or the name of the error."""

import ctypes
import errno
import json
import mmap
import os
import signal
import socket
import struct
from urllib.parse import parse_qs

libc = ctypes.CDLL(None, use_errno=True)
RECORD = 5


def read(path):
    """Opens as well as reads: /proc refuses some things only then."""
    with open(path, "rb") as file:
        file.read(1)


def write(path):
    """Made anew, by its umask."""
    with open(path, "w") as file:
        file.write("of this group")


def connect(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)


def make_writable(start, length):
    mode = mmap.PROT_READ | mmap.PROT_WRITE
    if libc.mprotect(ctypes.c_void_p(int(start)), ctypes.c_size_t(int(length)), mode):
        raise OSError(ctypes.get_errno(), "mprotect")


def spoil_record():
    """Random bytes all over its own record, again and again while this request runs."""
    size = os.fstat(RECORD).st_size
    for _ in range(50):
        os.pwrite(RECORD, os.urandom(size), 0)


def forge_record():
    """As if it ran as many requests as there are slots, with random bytes for their texts."""
    size = os.fstat(RECORD).st_size
    os.pwrite(RECORD, struct.pack("=IIQQ", 2, 1024, 1 << 63, 0) + os.urandom(size - 24), 0)


ATTEMPTS = {
    "setuid": lambda: os.setuid(0),
    "setgid": lambda: os.setgid(0),
    "seteuid": lambda: os.seteuid(0),
    "setgroups": lambda: os.setgroups([0]),
    "shrink-record": lambda: os.ftruncate(RECORD, 0),
    "grow-record": lambda: os.ftruncate(RECORD, 1 << 30),
    "kill": lambda pid: os.kill(int(pid), signal.SIGKILL),
    "read": read,
    "list": os.listdir,
    "write": write,
    "connect": connect,
    "make-writable": make_writable,
    "spoil-record": spoil_record,
    "forge-record": forge_record,
}


def application(environ, start_response):
    asked = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    attempt = ATTEMPTS[asked.pop("what")]
    try:
        attempt(**asked)
        outcome = None
    except OSError as error:
        outcome = errno.errorcode[error.errno]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(outcome).encode()]
