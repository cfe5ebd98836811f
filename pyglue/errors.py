# SPDX-License-Identifier: Apache-2.0
"""What a user or an administrator can mend. Each message says what, where and how."""


class PyglueError(Exception):
    """Told as one message, without a traceback: it is not our mistake."""
