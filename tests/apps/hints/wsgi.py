# SPDX-License-Identifier: Apache-2.0
"""Sends so many early hints as the query says, tells that it runs (a file), waits until it may end
(another), reads its body, and answers what came of it all."""

import os
import time
from wsgiref.validate import validator


def sent(environ, count):
    for i in range(count):
        try:
            environ["wsgi.early_hints"]([("Link", f"</{i}.css>; rel=preload")])
        except RuntimeError:
            return f"raised after {i}"
    return f"sent {count}"


@validator
def application(environ, start_response):
    name, count = environ["QUERY_STRING"].split("&")
    told = sent(environ, int(count)) if "wsgi.early_hints" in environ else "none allowed"
    name = os.path.join(environ["files"], name)
    open(name + ".runs", "w").close()
    deadline = time.monotonic() + 20
    while not os.path.exists(name + ".end") and time.monotonic() < deadline:
        time.sleep(0.005)
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    answer = told.encode() + body
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]
