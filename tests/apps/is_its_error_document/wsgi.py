# SPDX-License-Identifier: Apache-2.0
"""Fails, having read so many bytes as the query says, but for /page, which answers what it sees."""

import json
from wsgiref.validate import validator


@validator
def application(environ, start_response):
    if environ["PATH_INFO"] != "/page":
        environ["wsgi.input"].read(int(environ["QUERY_STRING"]))
        raise ValueError("raised on purpose")
    seen = {"body": environ["wsgi.input"].read(-1).decode("latin-1")}
    seen |= {key: value for key, value in environ.items() if isinstance(value, str)}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(seen).encode()]
