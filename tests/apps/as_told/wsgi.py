# SPDX-License-Identifier: Apache-2.0
"""Answers what the query says: JSON of status, headers and blocks (text as latin-1)."""

import json
from urllib.parse import unquote


def application(environ, start_response):
    told = json.loads(unquote(environ["QUERY_STRING"], "latin-1") or "{}")
    headers = [tuple(field) for field in told.get("headers", [["Content-Type", "text/plain"]])]
    start_response(told.get("status", "200 OK"), headers)
    return [block.encode("latin-1") for block in told.get("blocks", [])]
