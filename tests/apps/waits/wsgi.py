# SPDX-License-Identifier: Apache-2.0
"""Says that it runs (a file), and waits until it may end (another)."""

import os
import time
from wsgiref.validate import validator


@validator
def application(environ, start_response):
    name = os.path.join(environ["files"], environ["QUERY_STRING"])
    open(name + ".runs", "w").close()
    deadline = time.monotonic() + 20
    while not os.path.exists(name + ".end") and time.monotonic() < deadline:
        time.sleep(0.005)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "4")])
    return [b"done"]
