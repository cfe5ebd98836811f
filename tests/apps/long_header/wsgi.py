# SPDX-License-Identifier: Apache-2.0
"""Answers with one header as long as the query says."""

from wsgiref.validate import validator

EMPTY = [("Content-Type", "text/plain"), ("Content-Length", "0")]


@validator
def application(environ, start_response):
    length = int(environ["QUERY_STRING"] or 1)
    start_response("200 OK", [("X-Long", "v" * length), *EMPTY])
    return []
