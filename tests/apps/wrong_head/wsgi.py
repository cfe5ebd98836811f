# SPDX-License-Identifier: Apache-2.0
"""Calls start_response with what Python makes of the query; answers the exception's name."""

from urllib.parse import unquote


def application(environ, start_response):
    status, headers = eval(unquote(environ["QUERY_STRING"], "latin-1"))
    try:
        start_response(status, headers)
    except Exception as error:
        answer = type(error).__name__
        start_response("200 OK", [("Content-Type", "text/plain"), ("X-Refused", answer)])
        return [answer.encode()]
    return [b"accepted"]
