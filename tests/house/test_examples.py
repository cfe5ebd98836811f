# SPDX-License-Identifier: Apache-2.0
"""Every configuration in httpd-conf/ is started as it stands, below what `module-config` prints."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from harness.httpd import Httpd

FOLDER = Path(__file__).parents[2] / "httpd-conf"
EXAMPLES = sorted(FOLDER.glob("*.conf"))
STATED = "/srv/hello"  # where the examples say that the application lies
README = (FOLDER.parent / "README.md").read_text()
URLS = {"daemon.conf": ["/shop", "/blog"], "migrating.conf": ["/", "/static/a.txt"]}


@pytest.fixture
def hello(folder: Path) -> Path:
    """The example application, with a static file beside it."""
    (folder / "static").mkdir()
    (folder / "static" / "a.txt").write_text("Hello from a file\n")
    shutil.copy(FOLDER / "hello.wsgi", folder)
    return folder


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.name)
def test_example_starts_and_serves(
    example: Path, hello: Path, start_httpd: Callable[..., Httpd]
) -> None:
    httpd = start_httpd(example.read_text().replace(STATED, str(hello)).splitlines())
    for url in URLS.get(example.name, ["/"]):
        answer = requests.get(httpd.url + url, timeout=30)
        assert answer.status_code == 200
        assert answer.text.startswith("Hello from")


def test_each_host_of_the_tenants_example_has_its_own_group(
    hello: Path, start_httpd: Callable[..., Httpd]
) -> None:
    text = (FOLDER / "mass-hosting.conf").read_text().replace(STATED, str(hello))
    httpd = start_httpd(text.splitlines())
    for host in ("shop.example", "blog.example"):
        answer = requests.get(httpd.url, headers={"Host": host}, timeout=30)
        assert f"the process group {host!r}" in answer.text


def test_configuration_of_the_readme_is_the_smallest_example() -> None:
    block = README.split("```apache\n")[1].split("```")[0]
    assert (FOLDER / "minimal.conf").read_text().endswith(block)
