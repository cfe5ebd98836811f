# SPDX-License-Identifier: Apache-2.0
"""Answers a list of one block of as many zeros as the query says: `size`, or `size&length`."""


def application(environ, start_response):
    size, _, length = environ["QUERY_STRING"].partition("&")
    headers = [("Content-Type", "application/octet-stream")]
    if length:
        headers.append(("Content-Length", size))
    start_response("200 OK", headers)
    return [bytes(int(size))]
