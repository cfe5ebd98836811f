# SPDX-License-Identifier: Apache-2.0
"""Answers what comes out of the pipe that the query names, through wsgi.file_wrapper."""

import os


def application(environ, start_response):
    pipe = open(os.path.join(environ["files"], environ["QUERY_STRING"]), "rb")
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return environ["wsgi.file_wrapper"](pipe)
