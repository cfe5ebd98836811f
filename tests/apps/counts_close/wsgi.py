# SPDX-License-Identifier: Apache-2.0
"""An endless or short result whose close() adds a line to the file that the query names."""

import os
from wsgiref.validate import validator


class Result:
    def __init__(self, path, endless):
        self.path, self.endless = path, endless

    def __iter__(self):
        yield b"x" * 65536
        while self.endless:
            yield b"x" * 65536

    def close(self):
        with open(self.path, "a") as out:
            out.write("closed\n")


@validator
def application(environ, start_response):
    name, _, endless = environ["QUERY_STRING"].partition("&")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return Result(os.path.join(environ["files"], name), bool(endless))
