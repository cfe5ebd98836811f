# SPDX-License-Identifier: Apache-2.0
"""One httpd with the process group `shop`, of the test's own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from harness.httpd import Httpd
from process import shop

StartShop = Callable[..., Httpd]


@pytest.fixture
def start_shop(folder: Path, start_httpd: Callable[..., Httpd]) -> StartShop:
    """start_shop(options, *more lines, workers=1, mpm="event"): serving when it returns."""

    def start(options: str = "", *more: str, workers: int = 1, mpm: str = "event") -> Httpd:
        server = start_httpd(shop.lines(folder, options, *more), root=folder, mpm=mpm)
        shop.wait_for_workers(server, workers)
        return server

    return start
