# SPDX-License-Identifier: Apache-2.0
"""One httpd whose workers lie, for the whole folder."""

from collections.abc import Iterator

import pytest
from harness.httpd import Httpd

from . import lying


@pytest.fixture(scope="module")
def liar() -> Iterator[Httpd]:
    """Groups of one fake worker each, and short timeouts."""
    server = lying.site().start()
    yield server
    server.stop()
    server.remove()
