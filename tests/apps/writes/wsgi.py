# SPDX-License-Identifier: Apache-2.0
"""Sends by write(), waits until the client saw it, then returns a block."""

import os
import time
from wsgiref.validate import validator


@validator
def application(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    seen = os.path.join(environ["files"], environ["QUERY_STRING"])
    write(b"written ")
    deadline = time.monotonic() + 10
    while not os.path.exists(seen) and time.monotonic() < deadline:
        time.sleep(0.005)
    return [b"returned"] if os.path.exists(seen) else [b"nobody saw it"]
