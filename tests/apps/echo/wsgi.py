# SPDX-License-Identifier: Apache-2.0
"""Answers the request body, read at once, through the validator."""

from wsgiref.validate import validator


@validator
def application(environ, start_response):
    body = environ["wsgi.input"].read(-1)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
