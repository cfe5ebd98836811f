# SPDX-License-Identifier: Apache-2.0
"""A process group as a plan has it, where a test does not care: the one place to add an option."""

from __future__ import annotations

UNSAID: dict[str, object] = {
    "log": 0,
    "log_level": 6,
    "server": "localhost",
    "processes": 1,
    "multiprocess": False,
    "threads": 2,
    "umask": None,
    "home": None,
    "chroot": None,
    "python_home": None,
    "python": None,
    "lang": None,
    "locale": None,
    "environ": None,
    "display_name": None,
    "send_buffer_size": 0,
    "receive_buffer_size": 0,
    "listen_backlog": 100,
    "script_uid": None,
    "script_gid": None,
    "pass_descriptors": False,
    "no_new_privs": True,
    "dumpable": True,
    "maximum_requests": 0,
    "startup_timeout": 0.0,
    "launch_timeout": 30.0,
    "shutdown_timeout": 5.0,
    "socket_timeout": 60.0,
    "strict_reload": False,
    "drain_timeout": None,
    "graceful_timeout": None,
    "eviction_timeout": None,
}
