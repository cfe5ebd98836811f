# SPDX-License-Identifier: Apache-2.0
"""Writes to wsgi.errors, sys.stderr and sys.stdout."""

import sys
from wsgiref.validate import validator


@validator
def application(environ, start_response):
    print("by wsgi.errors", file=environ["wsgi.errors"])
    print("by sys.stderr", file=sys.stderr)
    print("by sys.stdout")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"logged"]
