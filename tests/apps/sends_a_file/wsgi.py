# SPDX-License-Identifier: Apache-2.0
"""Answers a file through wsgi.file_wrapper: `name` or `name&offset&length`."""

import os


def application(environ, start_response):
    name, offset, length, *_ = (*environ["QUERY_STRING"].split("&"), "", "")
    opened = open(os.path.join(environ["files"], name), "rb")
    opened.seek(int(offset or 0))
    headers = [("Content-Type", "application/octet-stream")]
    if length:
        headers.append(("Content-Length", length))
    start_response("200 OK", headers)
    return environ["wsgi.file_wrapper"](opened, 65536)
