# SPDX-License-Identifier: Apache-2.0
"""Reads the body by the expression in the query and answers its repr, or the exception's name."""

from urllib.parse import unquote


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    names = {"input": environ["wsgi.input"]}
    try:
        answer = repr(eval(unquote(environ["QUERY_STRING"]), names))
    except OSError as error:
        answer = "OSError"
        names["error"] = error
    return [answer.encode()]
