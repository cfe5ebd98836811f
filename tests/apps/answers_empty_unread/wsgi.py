# SPDX-License-Identifier: Apache-2.0
"""Answers an empty body without reading the request body."""


def application(environ, start_response):
    start_response("401 Unauthorized", [("Content-Length", "0")])
    return []
