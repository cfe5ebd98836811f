# SPDX-License-Identifier: Apache-2.0
"""Drops every string of its head at once, collects, fills the freed memory, and uses other threads.

The query is what the answer must show in status, header and body."""

import gc
import threading
from wsgiref.validate import validator


def tell(environ):
    environ["wsgi.errors"].write("")
    environ["wsgi.input"].read(10)


@validator
def application(environ, start_response):
    name = environ["QUERY_STRING"]
    late = threading.Thread(target=tell, args=[environ])
    late.start()
    headers = [("X-" + name, name * 50), ("Content-Type", "text/" + name)]
    start_response("200 " + name, headers)
    headers.clear()
    gc.collect()
    filled = ["garbage%d" % number * 50 for number in range(200)]
    yield name.encode()
    del filled
    late.join()
    yield name.encode()
