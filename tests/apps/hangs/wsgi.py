"""Hangs as its query says, with the word behind the colon as the name of its files."""

import os
import threading
import time

import mod_wsgi


def keep_gil(function, *arguments):
    import ctypes  # not to be had in an interpreter with a GIL of its own before 3.13

    getattr(ctypes.PyDLL(None), function)(*arguments)


def spin(gone):
    while not gone():
        pass


def deep(gone):
    """Busy, with frames that come and go."""

    def down(levels):
        return down(levels - 1) if levels else gone()

    while not down(200):
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
    keep_gil("sleep", 4)
    sleep(gone)


def keep_gil_for_ever(gone):
    keep_gil("pause")


def keep_own_gil(gone):
    import keeps_gil  # of tests/harness

    keeps_gil.keep(gone.fifo)
    sleep(gone)


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

    gone.fifo = os.path.join(files, name + ".fifo")
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
