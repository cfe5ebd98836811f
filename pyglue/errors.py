# SPDX-License-Identifier: Apache-2.0
"""What a user or an administrator can mend. Each message says what, where and how."""


class PyglueError(Exception):
    """Told as one message, without a traceback: it is not our mistake."""

    id = "PG3100"  # of the message: docs/reference/messages.md
    status = 500  # of a request that it ends


class ScriptFileError(PyglueError):
    """The script's file is missing, unreadable, or not owned as configured."""

    id = "PG3101"


class ScriptOwnerError(ScriptFileError):
    """script-user or script-group do not allow the script's file, or its folder."""

    status = 403


class ScriptFailedError(PyglueError):
    """The script failed to load before, and nothing has changed since; the log has it all."""

    id = "PG3102"


class MissingCallableError(PyglueError):
    """The script has no such callable."""

    id = "PG3103"
    status = 404


class NotCallableError(PyglueError):
    """The script has something of that name which cannot be called."""

    id = "PG3104"
