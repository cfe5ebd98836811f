# SPDX-License-Identifier: Apache-2.0
"""Fixtures of fresh machines. Without a daemon these tests are skipped, and the summary says so."""

from __future__ import annotations

import os
from collections.abc import Iterator

import machine
import pytest

import docker

ROWS = os.environ.get("DOCKER_ROWS", "bookworm,trixie").split(",")


@pytest.fixture(scope="session")
def client() -> Iterator[docker.DockerClient]:
    missing = machine.why_no_daemon()
    if missing:
        pytest.skip(f"fresh machines were not tested: {missing}")
    try:
        with machine.daemon() as client:
            yield client
    except machine.NoDaemonError as error:
        pytest.skip(f"fresh machines were not tested: {error}")


@pytest.fixture(params=ROWS)
def suite(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["root", "ann"])
def fresh(
    request: pytest.FixtureRequest, client: docker.DockerClient, suite: str
) -> Iterator[machine.Machine]:
    """A machine on which the named user has the checkout."""
    with machine.machine(client, suite, str(request.param)) as made:
        yield made
