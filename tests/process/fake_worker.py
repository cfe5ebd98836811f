#!/usr/bin/python3 -IS
# SPDX-License-Identifier: Apache-2.0
"""Stands in for a worker's Python: speaks docs/plan.md section 4 and obeys lines on its socket.

The first word of the group's name says how it starts: "mute" never speaks, "dies" exits before
the hello, "unloaded" is ready with a script that failed, "failed" has no engine; else it is ready.
"""

import json
import os
import select
import signal
import socket
import struct
import sys
import threading

WORDS = struct.Struct("=IIQ")
HELLO, READY, FAILED, CHANGED, RELOAD, RECYCLE, LEFT = range(1, 8)
DRAIN, STOP = 1, 2
LEAVE = b"\x0e"  # the type in a frame's header, docs/wire.md 13
CONTROL, LISTENER, RECORD, MESSAGES = 3, 4, 5, 6
shouted = [0]  # bytes written


def read_exactly(fd, size):
    data = b""
    while len(data) < size:
        data += os.read(fd, size - len(data)) or sys.exit("the supervisor is gone")
    return data


def say(message, argument=0, value=0):
    os.write(MESSAGES, WORDS.pack(message, argument, value))


def set_record(slots, requests, running):
    """Header of record.h, then the numbers of running requests."""
    os.pwrite(RECORD, struct.pack("=IIQQ", 1, slots, requests, 0), 0)
    for i, number in enumerate(running):
        os.pwrite(RECORD, struct.pack("=QQ", number, 1), 24 + 16 * i)


def obey(line, settings):
    word, *rest = line.split()
    if word == "say":
        say(*map(int, rest))
    elif word == "print":
        os.write(2, " ".join(rest).encode() + b"\n")
    elif word == "shout":
        threading.Thread(target=shout, daemon=True).start()
    elif word == "shouted":
        return str(shouted[0])
    elif word == "record":
        set_record(4, int(rest[0]), [int(number) for number in rest[1:]])
    elif word == "ignore":
        settings["ignores"] = True
    elif word == "die":
        os.kill(os.getpid(), signal.Signals[rest[0]])
    elif word == "exit":
        os._exit(int(rest[0]))
    elif word == "orphan":
        return str(start_orphan())
    return {
        "pid": str(os.getpid()),
        "environ": json.dumps(dict(os.environ)),
        "settings": json.dumps(settings),
        "argv": json.dumps(sys.argv),
        "uid": str(os.getuid()),
    }.get(word, "done")


def shout():
    """Empty lines, as fast as they are taken."""
    while True:
        shouted[0] += os.write(2, b"\n" * 65536)


def start_orphan():
    """A descendant that left session and process group."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if (pid := os.fork()) == 0:
            signal.pause()
        os.write(write, str(pid).encode())
        os._exit(0)
    return int(os.read(read, 20))


def serve(settings):
    listener = socket.socket(fileno=LISTENER)
    minded = [CONTROL, listener]
    while True:
        for ready in select.select(minded, [], [])[0]:
            if ready is listener:
                with listener.accept()[0] as peer:
                    answer_to(peer, settings)
                continue
            if not os.read(CONTROL, WORDS.size):
                minded.remove(CONTROL)  # an orphan serves on
            elif not settings.get("ignores"):
                say(LEFT)
                os._exit(0)


def answer_to(peer, settings):
    """A line of a test's, a frame of the next supervisor's, or its look whether we are there."""
    if peer.recv(5, socket.MSG_PEEK)[4:] == LEAVE:
        os._exit(0)
    if line := peer.makefile().readline():
        peer.sendall(obey(line, settings).encode() + b"\n")


def main():
    settings = json.loads(
        read_exactly(CONTROL, int.from_bytes(read_exactly(CONTROL, 4), sys.byteorder))
    )
    way = settings["group"].split("-")[0]
    if way == "mute":
        signal.pause()
    if way == "dies":
        os._exit(3)
    say(HELLO, 1, settings["number"])
    if way == "failed":
        say(FAILED, 1)
        os._exit(1)
    set_record(4, 0, [])
    say(READY, 0 if way == "unloaded" else 1)
    serve(settings)


main()
