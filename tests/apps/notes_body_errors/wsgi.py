# SPDX-License-Identifier: Apache-2.0
"""Reads the body twice and notes in a file what came of it: the client has gone by then."""

import os


def attempt(read):
    try:
        return "%d bytes" % len(read())
    except OSError:
        return "OSError"


def application(environ, start_response):
    read = environ["wsgi.input"].read
    note = os.path.join(environ["files"], environ["QUERY_STRING"])
    with open(note + ".part", "w") as out:
        out.write(attempt(read) + "," + attempt(read))
    os.rename(note + ".part", note)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"read"]
