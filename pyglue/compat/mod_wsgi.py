# SPDX-License-Identifier: Apache-2.0
"""The module `mod_wsgi` that applications import. The loader fills in the names of this place."""

import logging
import threading
from typing import Any

from pyglue import _engine
from pyglue._engine import MOD_WSGI_VERSION as version
from pyglue._engine import FileWrapper

__all__ = [
    "FileWrapper",
    "LogHandler",
    "RequestTimeout",
    "application_group",
    "maximum_processes",
    "process_group",
    "request_data",
    "threads_per_process",
    "version",
]

process_group = ""
application_group = ""
maximum_processes = 1
threads_per_process = 1

_LEVELS = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_local = threading.local()


class RequestTimeout(BaseException):
    """Raised in a request that runs for too long."""


class LogHandler(logging.Handler):
    """Logs to httpd's error log at the level that corresponds to the record's."""

    def emit(self, record: logging.LogRecord) -> None:
        """One entry a record, tied to the request of the thread that logs."""
        try:
            level = next((ours for theirs, ours in _LEVELS if record.levelno >= theirs), 7)
            _engine.log(level, self.format(record))
        except Exception:
            self.handleError(record)


def request_data() -> dict[str, Any]:
    """A dict of the request that this thread runs; RuntimeError outside of one."""
    request = _engine.request_id()
    if request is None:
        raise RuntimeError("no request is running in this thread")
    if getattr(_local, "request", None) != request:
        _local.request, _local.data = request, {}
    data: dict[str, Any] = _local.data
    return data
