# SPDX-License-Identifier: Apache-2.0
"""Logs as many lines of as many bytes as the query says: `lines&bytes&where`, where = 2: to
descriptor 2, else to wsgi.errors."""

import os


def application(environ, start_response):
    lines, length, where = environ["QUERY_STRING"].split("&")
    text = ("flood" + "x" * (int(length) - 5) + "\n") * int(lines)
    if where == "2":
        os.write(2, text.encode())
    else:
        environ["wsgi.errors"].write(text)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "0")])
    return []
