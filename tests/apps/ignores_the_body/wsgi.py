# SPDX-License-Identifier: Apache-2.0
"""Answers without reading the request body."""

from wsgiref.validate import validator


@validator
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "7")])
    return [b"ignored"]
