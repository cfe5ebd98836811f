# SPDX-License-Identifier: Apache-2.0
"""Raises where the query says."""

import sys
from wsgiref.validate import validator

KINDS = {"error": ValueError, "exit": SystemExit, "interrupt": KeyboardInterrupt}
TYPE = ("Content-Type", "text/plain")
LENGTH = ("Content-Length", "10")


class Closing:
    def __iter__(self):
        return iter([b"whole"])

    def close(self):
        raise ValueError("raised in close")


@validator
def application(environ, start_response):
    where, _, kind = environ["QUERY_STRING"].partition("&")
    error = KINDS[kind or "error"]("raised " + where)
    if where == "before":
        raise error
    if where == "after_start_response":
        start_response("200 OK", [("X-Lost", "1"), TYPE])
        raise error
    if where == "with_exc_info":
        start_response("200 OK", [("X-Lost", "1"), TYPE])
        try:
            raise error
        except ValueError:
            start_response("503 Sorry", [TYPE], sys.exc_info())
        return [b"sorry"]
    return in_iteration(where, error, start_response)


def in_iteration(where, error, start_response):
    length = [LENGTH] if where == "after_with_length" else []
    start_response("200 OK", [TYPE, *length])
    if where == "in_close":
        return Closing()
    return blocks(error, where != "in_first_block")


def blocks(error, some):
    if some:
        yield b"first"
    raise error
