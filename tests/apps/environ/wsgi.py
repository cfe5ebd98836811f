# SPDX-License-Identifier: Apache-2.0
"""Answers the environ as JSON, through the validator."""

import json
from wsgiref.validate import validator


@validator
def application(environ, start_response):
    known = {
        key: value for key, value in environ.items() if isinstance(value, (str, bool, int, tuple))
    }
    body = json.dumps(known).encode()
    start_response(
        "200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    )
    return [body]
