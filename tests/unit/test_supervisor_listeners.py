# SPDX-License-Identifier: Apache-2.0
"""The socket directory: made, proved, and left as it was found. Messages listed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pyglue.supervisor import messages
from pyglue.supervisor.listeners import Directory, ListenError

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "messages.md"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path


def test_socket_and_directories_of_older_epochs_are_removed_at_the_end(run: Path) -> None:
    for epoch in (1, 2):
        directory = Directory(str(run / "wsgi"), 77, epoch)
        listener = directory.listen(5, 10)
        assert Path(listener.path) == run / f"wsgi.77.{epoch}" / "5.sock"
        listener.release()
    directory.remove()
    assert list(run.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a socket to another user")
def test_socket_is_httpds_only_when_it_is_given_and_no_longer_held(run: Path) -> None:
    """What httpd's user attaches to a socket that root holds could block root."""
    directory = Directory(str(run / "wsgi"), 77, 1)
    listener = directory.listen(5, 10)
    found = os.stat(listener.path)
    assert (found.st_mode & 0o7777, found.st_uid) == (0o600, 0)
    directory.give(listener, 12345)
    found = os.stat(listener.path)
    assert (found.st_mode & 0o7777, found.st_uid) == (0o600, 12345)
    assert listener.sock is None
    directory.remove()


def test_directory_that_was_removed_is_noticed_once_and_made_anew(run: Path) -> None:
    directory = Directory(str(run / "wsgi"), 77, 1)
    assert not directory.is_lost()
    old = directory.listen(5, 10)
    assert not directory.is_lost()
    shutil.rmtree(run / "wsgi.77.1")
    assert (directory.is_lost(), directory.is_lost()) == (True, False)
    directory.remove_socket(old)
    new = directory.listen(6, 10)
    assert Path(new.path).is_socket() and not directory.is_lost()
    new.release()
    directory.remove()
    assert list(run.iterdir()) == []


def test_directory_in_the_place_of_a_removed_one_is_proved_again(run: Path) -> None:
    directory = Directory(str(run / "wsgi"), 77, 1)
    directory.listen(5, 10).release()
    shutil.rmtree(run / "wsgi.77.1")
    (run / "wsgi.77.1").mkdir()
    (run / "wsgi.77.1").chmod(0o777)
    assert directory.is_lost()
    with pytest.raises(ListenError, match="others can write"):
        directory.listen(6, 10)


def test_symlink_in_the_place_of_the_directory_is_refused_and_not_followed(run: Path) -> None:
    target = run / "target"
    target.mkdir()
    (run / "wsgi.77.1").symlink_to(target)
    with pytest.raises(ListenError, match="WSGISocketPrefix"):
        Directory(str(run / "wsgi"), 77, 1).listen(5, 10)
    assert list(target.iterdir()) == []


def test_directory_that_others_prepared_is_refused(run: Path) -> None:
    (run / "wsgi.77.1").mkdir()
    (run / "wsgi.77.1").chmod(0o777)
    with pytest.raises(ListenError, match="others can write"):
        Directory(str(run / "wsgi"), 77, 1).listen(5, 10)


def test_path_too_long_for_a_socket_is_refused_with_the_directive(run: Path) -> None:
    with pytest.raises(ListenError, match="longer than 107"):
        Directory(str(run / ("w" * 120)), 77, 1).listen(5, 10)


def test_reference_lists_every_message() -> None:
    rows = [m for m in vars(messages).values() if isinstance(m, messages.Message)]
    listed = REFERENCE.read_text()
    assert rows and len({m.id for m in rows}) == len(rows)
    for row in rows:
        assert f"| {row.id} | {messages.LEVEL_NAMES[row.level]} | {row.text} |" in listed
