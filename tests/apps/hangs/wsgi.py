"""Hangs as its query says, with the word behind the colon as the name of its files."""

import ctypes
import os
import threading
import time

import mod_wsgi

libc = ctypes.PyDLL(None)  # its calls keep the GIL


def spin(gone):
    while not gone():
        pass


def sleep(gone):
    while not gone():
        time.sleep(0.01)


def lock(gone):
    mine = threading.Lock()
    mine.acquire()
    threading.Thread(target=lambda: (sleep(gone), mine.release()), daemon=True).start()
    mine.acquire()


def keep_gil_once(gone):
    libc.sleep(4)
    sleep(gone)


def keep_gil_for_ever(gone):
    libc.pause()


def catch(gone):
    try:
        sleep(gone)
    except mod_wsgi.RequestTimeout:
        return b"caught"
    return b"gone"


def application(environ, start_response):
    how, _, name = environ["QUERY_STRING"].partition(":")
    files = environ["files"]
    open(os.path.join(files, name + ".runs"), "w").close()

    def gone():
        return os.path.exists(os.path.join(files, name + ".end"))

    if how in ("blocks", "stream", "large"):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return globals()[how](gone)
    body = globals()[how](gone) if how else b"here"
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Pid", str(os.getpid()))])
    return [body or b"done"]


def stream(gone):
    while not gone():
        time.sleep(0.001)
        yield b"more"


def large(gone):
    return [b"x" * (8 << 20)]


def blocks(gone):
    yield b"first"
    sleep(gone)
