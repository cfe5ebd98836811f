"""The example application: says where it runs."""

import platform


def application(environ, start_response):
    group = environ["mod_wsgi.process_group"]
    where = f"the process group {group!r}" if group else "a child of httpd"
    body = f"Hello from {where}, Python {platform.python_version()}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
