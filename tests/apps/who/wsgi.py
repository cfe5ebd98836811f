# SPDX-License-Identifier: Apache-2.0
"""Answers facts on the process that serves it."""

import json
import os
import sys
from wsgiref.validate import validator


@validator
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    facts = {
        "pid": os.getpid(),
        "uid": os.getuid(),
        "group": environ["mod_wsgi.process_group"],
        "prefix": sys.prefix,
    }
    return [json.dumps(facts).encode()]
