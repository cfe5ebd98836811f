# SPDX-License-Identifier: Apache-2.0
"""Says that it runs (a file of the query's name). Where a FIFO of that name is there, it holds the
GIL until somebody writes to it, as an extension does that does not let go of it."""

import ctypes
import os


def application(environ, start_response):
    name = os.path.join(environ["files"], environ["QUERY_STRING"])
    open(name + ".runs", "w").close()
    if os.path.exists(name + ".fifo"):
        fifo = os.open(name + ".fifo", os.O_RDWR)
        ctypes.PyDLL(None).read(fifo, ctypes.create_string_buffer(1), 1)
        os.close(fifo)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
