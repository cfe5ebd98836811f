# SPDX-License-Identifier: Apache-2.0
"""Whether httpd can have the addresses that it is to listen on.

httpd itself tries that only when it starts. Knows the lines that `glue_check.c` prints."""

import errno
import os
import re
import socket
from pathlib import Path

ADDRESS = re.compile(rb"^listen (\S+) (\d+)$", re.MULTILINE)
PID_FILE = re.compile(rb"^pid-file (.+)$", re.MULTILINE)


def bind_error(host: str, port: int) -> OSError | None:
    """Why this process cannot have the address now. httpd binds it itself a moment later."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            # Not listen(): for that moment it would swallow a client's connection.
            probe.bind((host, port))
        except OSError as error:
            return error
    return None


def obstacles(told: bytes) -> list[str]:
    """A sentence for each address of the configuration that cannot be had."""
    if any(is_running(Path(os.fsdecode(path))) for path in PID_FILE.findall(told)):
        return []  # they are its own
    addresses = [(host.decode(), int(port)) for host, port in ADDRESS.findall(told)]
    failed = [(host, port, bind_error(host, port)) for host, port in addresses]
    return [f"{host} port {port}: {reason(error)}" for host, port, error in failed if error]


def is_running(pid_file: Path) -> bool:
    """Is there an httpd that was started with this configuration?"""
    try:
        os.kill(int(pid_file.read_text()), 0)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "it is in use by another program: stop that one, or give Listen another port"
    if error.errno == errno.EACCES:
        return "only root may use this port: start httpd as root, or give Listen one from 1024 up"
    return f"{error.strerror or error}: give Listen an address of this machine"
