"""litmus, the WebDAV protocol's own test suite, on WsgiDAV."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable

import pytest
from conftest import give

pytestmark = pytest.mark.clients


def test_litmus_passes_on_wsgidav(
    serve: Callable[[str], str], run: Callable[..., str], folder: pathlib.Path
) -> None:
    (folder / "share").mkdir()
    give(folder / "share")
    address = serve("webdav.wsgi")

    report = run("litmus", "--keep-going", address + "/")

    suites = re.findall(r"summary for `(\w+)': of (\d+) tests run: (\d+) passed", report)
    assert [name for name, *_ in suites] == ["basic", "copymove", "props", "locks", "http"], report
    assert all(ran == passed for _, ran, passed in suites), report
