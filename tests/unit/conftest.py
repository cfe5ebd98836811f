# SPDX-License-Identifier: Apache-2.0
"""Fixtures only: workers without Python, from the library `harness`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import worker
from harness.census import is_open
from harness.worker import Start, Worker


@pytest.fixture(scope="session")
def sanitized_worker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return worker.compile_worker(
        tmp_path_factory.mktemp("worker") / "sanitized", *worker.SANITIZERS
    )


@pytest.fixture(scope="session")
def plain_worker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return worker.compile_worker(tmp_path_factory.mktemp("worker") / "plain")


@pytest.fixture
def start_worker(sanitized_worker: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts workers; each must end with 0 and no word of the sanitizers."""
    started: list[Worker] = []

    def one(**options: object) -> Worker:
        started.append(Worker(sanitized_worker, tmp_path, **options))  # type: ignore[arg-type]
        return started[-1]

    yield one
    for one_started in started:
        if is_open(one_started.record):
            one_started.close()
