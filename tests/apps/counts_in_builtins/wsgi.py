# SPDX-License-Identifier: Apache-2.0
"""Counts its requests in the interpreter's builtins: one count for each interpreter."""

import builtins
from wsgiref.validate import validator


@validator
def application(environ, start_response):
    builtins.glue_count = getattr(builtins, "glue_count", 0) + 1
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % builtins.glue_count]
