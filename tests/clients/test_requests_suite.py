"""The test suite of requests, with httpbin served by us instead of by pytest-httpbin."""

from __future__ import annotations

import pathlib
import re
import sys
from collections.abc import Callable

import environment
import pytest

pytestmark = pytest.mark.clients

# Cases that do not pass on pytest-httpbin's own server either, with the reason.
FAILS_EVERYWHERE = [
    # They connect to a private address in the hope that nobody answers; we only talk to loopback.
    "tests/test_requests.py::TestTimeout::test_connect_timeout",
    "tests/test_requests.py::TestTimeout::test_total_timeout_connect",
    # Its certificates, which lie in the release, have expired.
    "tests/test_requests.py::TestPreparingURLs::test_different_connection_pool_for_mtls_settings",
]
if sys.version_info >= (3, 13):  # it verifies strictly, and a certificate of the release is lax
    FAILS_EVERYWHERE.append(
        "tests/test_requests.py::TestPreparingURLs"
        "::test_different_connection_pool_for_tls_settings_verify_bundle_unexpired_cert"
    )


@pytest.fixture
def suite(run: Callable[..., str], folder: pathlib.Path) -> pathlib.Path:
    """The sources of the very release that is installed, tests included."""
    line = next(
        row
        for row in environment.REQUIREMENTS.read_text().splitlines()
        if row.startswith("requests==")
    )
    run(
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-binary",
        ":all:",
        "--no-build-isolation",
        line,
    )
    archive = next(folder.glob("requests-*.tar.gz"))
    run("tar", "-xzf", str(archive))
    return folder / archive.name.removesuffix(".tar.gz")


def test_suite_of_requests_passes_on_httpbin(
    serve: Callable[[str], str],
    run: Callable[..., str],
    clients: pathlib.Path,
    suite: pathlib.Path,
) -> None:
    address = serve("httpbin.wsgi")
    options = [f"--deselect={case}" for case in FAILS_EVERYWHERE]

    report = run(
        str(clients / "python"),
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "httpbin_address",
        *options,
        "tests",
        cwd=suite,
        PYTHONPATH=str(pathlib.Path(__file__).parent),
        HTTPBIN_URL=address,
    )

    passed = re.search(r"(\d+) passed", report)
    assert passed is not None and int(passed[1]) > 500, report
