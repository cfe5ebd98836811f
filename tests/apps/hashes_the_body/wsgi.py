# SPDX-License-Identifier: Apache-2.0
"""Answers the SHA-256 of the request body, which it reads in blocks."""

import hashlib


def application(environ, start_response):
    digest = hashlib.sha256()
    while block := environ["wsgi.input"].read(65536):
        digest.update(block)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [digest.hexdigest().encode()]
