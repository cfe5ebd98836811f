# SPDX-License-Identifier: Apache-2.0
"""Answers so many blocks of 64 KiB as the query says, `count`, each of its own number; with
`count&length` their sum is announced. When it is closed it says so (a file)."""

import os


class Blocks:
    def __init__(self, count, note):
        self.numbers, self.note = iter(range(count)), note

    def __iter__(self):
        return self

    def __next__(self):
        return b"%08d" % next(self.numbers) * 8192

    def close(self):
        with open(self.note, "a") as note:
            note.write("closed\n")


def application(environ, start_response):
    count, _, length = environ["QUERY_STRING"].partition("&")
    headers = [("Content-Type", "application/octet-stream")]
    if length:
        headers.append(("Content-Length", str(int(count) << 16)))
    start_response("200 OK", headers)
    return Blocks(int(count), os.path.join(environ["files"], "closed"))
