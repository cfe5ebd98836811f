# SPDX-License-Identifier: Apache-2.0
"""One block, as long as the query says (`size&name`), is the whole body; close() then waits until
a file of that name is there."""

import os
import time


class Result:
    def __init__(self, size, path):
        self.blocks, self.path = iter([bytes(size)]), path

    def __iter__(self):
        return self.blocks

    def close(self):
        deadline = time.monotonic() + 20
        while not os.path.exists(self.path) and time.monotonic() < deadline:
            time.sleep(0.005)
        os.unlink(self.path)


def application(environ, start_response):
    size, _, name = environ["QUERY_STRING"].partition("&")
    headers = [("Content-Type", "text/plain"), ("Content-Length", size)]
    start_response("200 OK", headers)
    return Result(int(size), os.path.join(environ["files"], name))
