# SPDX-License-Identifier: Apache-2.0
"""Answers an empty body without reading the request body."""

from wsgiref.validate import validator


@validator
def application(environ, start_response):
    start_response("401 Unauthorized", [("Content-Type", "text/plain"), ("Content-Length", "0")])
    return []
