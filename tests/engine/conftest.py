"""Fixtures of the memory host: an application's source in, the operations it caused out."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .memhost.machine import Answer, Machine


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The memory host, compiled for the Python under test."""
    return Machine.build(tmp_path_factory.mktemp("memhost"))


@pytest.fixture(scope="module")
def machine(built: Path) -> Iterator[Machine]:
    """A process with the engine open, as embedded in httpd."""
    with Machine(built) as made:
        yield made


@pytest.fixture
def run(machine: Machine, tmp_path: Path) -> Callable[..., Answer]:
    """Run one request of an application given as source text; a new script each time."""
    count = iter(range(1000))

    def play(source: str, **request: object) -> Answer:
        script = tmp_path / f"app{next(count)}.wsgi"
        script.write_text(textwrap.dedent(source))
        return machine.call(str(script), **request)

    return play
