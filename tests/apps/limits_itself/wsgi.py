# SPDX-License-Identifier: Apache-2.0
"""Sets a limit of its own process, as the query says, or lifts it again: NAME, or NAME&lift."""

import os
import resource


def memory():
    """No more than it has, and some for answers."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    return pages * resource.getpagesize() + (8 << 20)


LIMITS = {
    "descriptors": (resource.RLIMIT_NOFILE, lambda: max(map(int, os.listdir("/proc/self/fd")))),
    "memory": (resource.RLIMIT_AS, memory),
}


def application(environ, start_response):
    name, _, lift = environ["QUERY_STRING"].partition("&")
    which, least = LIMITS[name]
    hard = resource.getrlimit(which)[1]
    resource.setrlimit(which, (hard if lift else least(), hard))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
