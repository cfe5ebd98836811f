# SPDX-License-Identifier: Apache-2.0
"""TENANTS 5, rule 2: where the kernel cannot refuse descriptors, one that blocks whoever closes it
holds a thread of httpd's child for a moment, and no other worker's connection."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.httpd import Httpd, new_root

from . import lying
from .lying import ask, check_others, children

CUT = (http.client.HTTPException, ConnectionError)  # or whole: socket-timeout may have passed


@pytest.fixture(scope="module")
def old() -> Iterator[Httpd]:
    """As on Linux before 6.16."""
    root = new_root()
    shim = root / "old_kernel.so"
    source = Path(__file__).with_name("old_kernel.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source], check=True)
    preload = " ".join([os.environ.get("LD_PRELOAD", ""), str(shim)]).strip()
    server = lying.site(root=root, environ={"LD_PRELOAD": preload}).start()
    yield server
    server.stop()
    server.remove()


def test_a_lingering_descriptor_holds_a_thread_for_a_moment_only(old: Httpd) -> None:
    check_others(old)
    before = children(old)
    with contextlib.suppress(*CUT):
        assert ask(old, "lingering")[:2] == (200, b"hello")
    check_others(old)
    assert children(old) == before


def test_one_that_was_left_unread_delays_no_other_close_for_long(old: Httpd) -> None:
    """All closes are one thread's."""
    old.log.expect("saw its connection closed")
    assert ask(old, "lingering-behind")[:2] == (200, b"hello")
    with pytest.raises(CUT):
        ask(old, "wrong-and-watching", "/other")
    old.log.wait_for("innocent. saw its connection closed")
