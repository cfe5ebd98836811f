# SPDX-License-Identifier: Apache-2.0
"""Yields a block, waits until the client says that it saw it (a file), yields the next."""

import os
import time
from wsgiref.validate import validator


@validator
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    seen = os.path.join(environ["files"], environ["QUERY_STRING"])
    yield b"first"
    deadline = time.monotonic() + 10
    while not os.path.exists(seen) and time.monotonic() < deadline:
        time.sleep(0.005)
    yield b"second" if os.path.exists(seen) else b"nobody saw the first"
