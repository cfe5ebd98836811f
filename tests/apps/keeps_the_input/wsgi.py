# SPDX-License-Identifier: Apache-2.0
"""Keeps wsgi.input and write of one request, and uses them in the next."""

from wsgiref.validate import validator

KEPT = []


def attempt(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return type(error).__name__
    return "no exception"


@validator
def application(environ, start_response):
    late = [attempt(read, 1) + " " + attempt(write, b"late") for read, write in KEPT]
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    KEPT[:] = [(environ["wsgi.input"].read, write)]
    return ["".join(late).encode()]
