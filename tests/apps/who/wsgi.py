# SPDX-License-Identifier: Apache-2.0
"""Answers the pid of the process that serves it."""

import json
import os
from wsgiref.validate import validator


@validator
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid(), "group": environ["mod_wsgi.process_group"]}).encode()]
