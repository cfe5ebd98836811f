# SPDX-License-Identifier: Apache-2.0
"""Sends 4 MiB before it reads a byte of the request body, then the number of bytes read."""

from wsgiref.validate import validator


@validator
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    for _ in range(64):
        yield b"x" * 65536
    yield b"%d" % len(environ["wsgi.input"].read(-1))
