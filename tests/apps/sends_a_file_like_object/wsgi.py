# SPDX-License-Identifier: Apache-2.0
"""Answers an object without a descriptor through wsgi.file_wrapper."""

import io


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return environ["wsgi.file_wrapper"](io.BytesIO(b"0123456789" * 1000), 1000)
