# SPDX-License-Identifier: Apache-2.0
"""A worker that says it is ready and never accepts a connection: its listen queue fills."""

import os
import struct

CONTROL, MESSAGES = 3, 6
HELLO, READY = 1, 2
WORDS = struct.Struct("=IIQ")


def read_exactly(size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += os.read(CONTROL, size - len(data)) or os._exit(0)  # type: ignore[func-returns-value]
    return data


def main() -> None:
    size = struct.unpack("=I", read_exactly(4))[0]
    settings = read_exactly(size).decode()
    number = int(settings.split('"number": ')[1].split(",")[0])
    os.write(MESSAGES, WORDS.pack(HELLO, 1, number))
    os.write(MESSAGES, WORDS.pack(READY, 1, 0))
    read_exactly(WORDS.size)  # the first command: to leave


if __name__ == "__main__":
    main()
