# SPDX-License-Identifier: Apache-2.0
"""Sets a limit of its own process, as the query says: `descriptors`, `memory&BYTES` more than it
has, or NAME&lift."""

import os
import resource


def descriptors(_):
    """It can open nothing more."""
    numbers = set(map(int, os.listdir("/proc/self/fd")))
    return min(number for number in range(len(numbers) + 1) if not is_open(number))


def is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def memory(spare):
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    return pages * resource.getpagesize() + int(spare)


LIMITS = {
    "descriptors": (resource.RLIMIT_NOFILE, descriptors),
    "memory": (resource.RLIMIT_AS, memory),
}


def application(environ, start_response):
    name, _, how = environ["QUERY_STRING"].partition("&")
    which, least = LIMITS[name]
    hard = resource.getrlimit(which)[1]
    resource.setrlimit(which, (hard if how == "lift" else least(how), hard))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
