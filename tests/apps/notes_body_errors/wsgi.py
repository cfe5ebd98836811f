# SPDX-License-Identifier: Apache-2.0
"""Reads the body twice and notes in a file what came of it: the client has gone by then."""

import os
from wsgiref.validate import validator


def attempt(read):
    try:
        return "%d bytes" % len(read(-1))
    except OSError:
        return "OSError"


@validator
def application(environ, start_response):
    read = environ["wsgi.input"].read
    note = os.path.join(environ["files"], environ["QUERY_STRING"])
    with open(note + ".part", "w") as out:
        out.write(attempt(read) + "," + attempt(read))
    os.rename(note + ".part", note)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"read"]
