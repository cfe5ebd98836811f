# SPDX-License-Identifier: Apache-2.0
"""Answers who serves it, in which process it was loaded, and whose child the server is."""

import json
import os
import sys

LOADED_IN = os.getpid()
BALLAST = [str(i) for i in range(int(os.environ.get("BALLAST", "0")))]


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    facts = {
        "pid": os.getpid(),
        "loaded_in": LOADED_IN,
        "parent": os.getppid(),
        "session": os.getsid(0),
        "argv": sys.argv,
    }
    return [json.dumps(facts).encode()]
