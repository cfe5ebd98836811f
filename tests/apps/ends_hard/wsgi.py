"""Leaves to the end of its interpreter all that makes interpreters crash there: threads that run
on, threads that are waited for, callbacks that fail or hang, objects that call back from C, and
objects with `__del__`.

The file `how` beside it may say `hang` (an exit callback does not return) or `fail` (the script
does not load). What begins and ends is noted in `begun` and `ended`."""

import atexit
import concurrent.futures
import contextlib
import hashlib
import importlib
import json
import os
import pathlib
import socket
import sqlite3
import ssl
import threading
import time
import weakref
import zlib

import mod_wsgi

here = pathlib.Path(__file__).parent
how = (here / "how").read_text() if (here / "how").exists() else ""
packages = []
for package in ("ctypes", "decimal", "numpy", "lxml.etree", "cryptography.x509", "keeps_gil"):
    with contextlib.suppress(ImportError):  # not installed, or not for a sub-interpreter
        packages.append(importlib.import_module(package))


def note(name):
    with open(here / name, "a") as file:
        file.write(f"{os.getpid()} {mod_wsgi.application_group or 'main'}\n")


class Last:
    """Runs Python code, and asks for a thread, while its interpreter is taken apart."""

    def __init__(self):
        self.me = self  # a cycle, for the collector

    def __del__(self):
        try:
            json.loads(json.dumps({"a": [1, 2, {}]}))
            threading.Thread(target=len, args=([],)).start()
        except BaseException:
            pass


def use(stop):
    """C code that lets the GIL go, and Python code."""
    data, mine = os.urandom(50_000), threading.local()
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.create_function("twice", 1, lambda number: number * 2)
    while not stop.is_set():
        mine.last = Last()
        zlib.decompress(zlib.compress(hashlib.sha256(data).digest() + data))
        database.execute("select twice(21)").fetchall()
        time.sleep(0.0001)


def wait_then_use(begin):
    begin.wait()
    use(threading.Event())


def suspended():
    try:
        yield Last()
    finally:
        Last()


ending, over = threading.Event(), threading.Event()
for _ in range(2):
    threading.Thread(target=wait_then_use, args=(ending,), daemon=True).start()
threading.Thread(target=use, args=(over,)).start()  # what ends waits for this one
executor = concurrent.futures.ThreadPoolExecutor(2)
for _ in range(4):
    executor.submit(over.wait)
threading._register_atexit(over.set)  # before the executor waits for its threads

kept = [Last(), suspended(), ssl.create_default_context(), socket.socketpair()]
next(kept[1])
kept.append(weakref.finalize(kept[0], Last))
if "ctypes" in [package.__name__ for package in packages]:
    import ctypes

    kept.append(ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 1))

# They run in the opposite order.
if how == "hang":
    atexit.register(threading.Event().wait)
atexit.register(note, "ended")
atexit.register(lambda: 1 / 0)
atexit.register(time.sleep, 0.01)
atexit.register(ending.set)
note("begun")
if how == "fail":
    raise ImportError("told to fail")


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode(), *(b" " + p.__name__.encode() for p in packages)]
