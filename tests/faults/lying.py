# SPDX-License-Identifier: Apache-2.0
"""A site whose process groups run fake_worker.py, and how to ask it for a lie.

/ is a group like any other, /passing one that may pass descriptors, which /closed may not though it
is the same group, /hinting one that may send interim responses, /other an innocent, /mute one whose
worker takes connections and says nothing."""

from __future__ import annotations

import http.client
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from harness import census, conf
from harness.httpd import Httpd, new_root

HERE = Path(__file__).parent
PATIENCE = 15.0


def site(*lines: str, root: Path | None = None, environ: Mapping[str, str] | None = None) -> Httpd:
    """Not started yet."""
    root = root or new_root()
    fake = fake_worker(root)
    (root / "app.wsgi").write_text("")
    options = f'home=/ python="{fake}" socket-timeout=1 response-socket-timeout=15'
    return Httpd(
        [
            f"WSGIDaemonProcess liars threads=5 {options}",
            f"WSGIDaemonProcess passing threads=5 pass-descriptors=on {options}",
            f"WSGIDaemonProcess hinting threads=5 interim-responses=2 {options}",
            f"WSGIDaemonProcess innocent threads=5 {options}",
            f"WSGIDaemonProcess mute threads=5 {options}",
            "SendBufferSize 16384",  # who does not read is soon waited for
            "Timeout 3",  # the default of response-timeout and queue-timeout
            "<Location /passing>",
            "WSGIEnableSendfile On",
            "</Location>",
            *(
                f'WSGIScriptAlias {url} "{root}/app.wsgi" process-group={group} '
                "application-group=%{GLOBAL}"
                for url, group in (
                    ("/passing", "passing"),
                    ("/closed", "passing"),
                    ("/hinting", "hinting"),
                    ("/other", "innocent"),
                    ("/mute", "mute"),
                    ("/", "liars"),
                )
            ),
            *conf.granted(root),
            *lines,
        ],
        root=root,
        environ=environ,
    )


def fake_worker(root: Path) -> Path:
    """The fake as a program that httpd's user can execute."""
    shutil.copytree(
        HERE.parent / "harness", root / "harness", ignore=shutil.ignore_patterns("__pycache__")
    )
    (root / "faults" / "files").mkdir(parents=True)
    (root / "faults" / "files").chmod(0o777)
    fake = root / "faults" / "fake"
    fake.write_text(f"#!{sys.executable} -B\n" + (HERE / "fake_worker.py").read_text())
    fake.chmod(0o755)
    return fake


def ask(server: Httpd, lie: str, where: str = "/") -> tuple[int, bytes, http.client.HTTPResponse]:
    """IncompleteRead or a broken connection: the response was cut, and looked so."""
    connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE)
    try:
        connection.request("GET", f"{where}?lie={lie}")
        response = connection.getresponse()
        return response.status, response.read(), response
    finally:
        connection.close()


def check_others(server: Httpd) -> None:
    """The same group, and another one, are served as if nothing had happened."""
    for where in ("/", "/other"):
        assert ask(server, "none", where)[:2] == (200, b"hello")


def children(server: Httpd) -> list[int]:
    """httpd's own processes."""
    return sorted(
        pid for pid in server.processes() if conf.program() in census.command(pid).split(" ")[0]
    )
