# SPDX-License-Identifier: Apache-2.0
"""Answers with a header as long as the query says, as often as it says: `length&times`."""

from wsgiref.validate import validator

EMPTY = [("Content-Type", "text/plain"), ("Content-Length", "0")]


@validator
def application(environ, start_response):
    length, _, times = environ["QUERY_STRING"].partition("&")
    fields = [("X-Long", "v" * int(length or 1))] * int(times or 1)
    start_response("200 OK", [*fields, *EMPTY])
    return []
