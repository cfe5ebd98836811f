# SPDX-License-Identifier: Apache-2.0
"""An httpd that speaks TLS, and a client that believes it."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

from .client import Connection

MODULES = ("socache_shmcb", "ssl")


def lines(folder: Path) -> list[str]:
    """For the whole server, with a key and certificate of its own in this folder. httpd warns of
    them."""
    key, certificate = folder / "key", folder / "certificate"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=tests.invalid", "-keyout", key, "-out", certificate]
    subprocess.run([*command, *names], check=True, stderr=subprocess.DEVNULL)
    return [
        "SSLEngine On",
        f'SSLCertificateFile "{certificate}"',
        f'SSLCertificateKeyFile "{key}"',
    ]


def encrypt(connection: Connection) -> None:
    """Nothing was sent on it yet."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection.socket = context.wrap_socket(connection.socket)
