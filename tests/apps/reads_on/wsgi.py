# SPDX-License-Identifier: Apache-2.0
"""Reads as many bytes as the query says (`size&name`), says that it has (a file), and then reads
the rest. `size&name&block` also sends a block in between."""

import os


def application(environ, start_response):
    size, name, *block = environ["QUERY_STRING"].split("&")
    read = environ["wsgi.input"].read
    note = os.path.join(environ["files"], name)

    def body():
        length = len(read(int(size)))
        yield from (text.encode() for text in block)
        open(note + ".runs", "w").close()
        try:
            length += len(read())
        except OSError:
            open(note + ".failed", "w").close()
            raise
        yield b"%d" % length

    blocks = body()
    first = next(blocks)
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield first
    yield from blocks
