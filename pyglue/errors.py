# SPDX-License-Identifier: Apache-2.0
"""What a user or an administrator can mend. Each message says what, where and how."""


class PyglueError(Exception):
    """Told as one message, without a traceback: it is not our mistake."""

    status = 500  # of a request that it ends


class ScriptFileError(PyglueError):
    """The script's file is missing, unreadable, or not owned as configured."""


class ScriptFailedError(PyglueError):
    """The script failed to load before, and nothing has changed since; the log has it all."""


class MissingCallableError(PyglueError):
    """The script has no such callable."""

    status = 404


class NotCallableError(PyglueError):
    """The script has something of that name which cannot be called."""
