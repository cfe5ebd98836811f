# SPDX-License-Identifier: Apache-2.0
"""Answers the request body block by block, while it is still being read."""

from wsgiref.validate import validator


@validator
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    while block := environ["wsgi.input"].read(65536):
        yield block
