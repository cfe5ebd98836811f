# SPDX-License-Identifier: Apache-2.0
"""Says that it runs (a file), reads the whole body, and answers its length."""

import os


def application(environ, start_response):
    open(os.path.join(environ["files"], environ["QUERY_STRING"] + ".runs"), "w").close()
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(len(body)).encode()]
