# SPDX-License-Identifier: Apache-2.0
"""Answers the pid and the number that it is asked with: NUMBER, or NUMBER&SECONDS that it takes."""

import os
import time
from wsgiref.validate import validator


@validator
def application(environ, start_response):
    number, _, seconds = environ["QUERY_STRING"].partition("&")
    time.sleep(float(seconds or 0))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {number}".encode()]
