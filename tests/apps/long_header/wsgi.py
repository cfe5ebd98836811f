# SPDX-License-Identifier: Apache-2.0
"""Answers with one header as long as the query says."""


def application(environ, start_response):
    length = int(environ["QUERY_STRING"] or 1)
    start_response("200 OK", [("X-Long", "v" * length), ("Content-Length", "0")])
    return []
