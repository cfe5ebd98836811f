# SPDX-License-Identifier: Apache-2.0
"""The examples, as they are, in both modes: Django, Flask and Bottle through a browser's eyes."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from harness import conf
from harness.httpd import Httpd, new_root
from harness.site import end

EXAMPLES = Path(__file__).parents[2] / "examples"
PYTHON = Path(os.environ.get("PYGLUE_PREFIX", sys.prefix)) / "bin" / "python"
ADMIN = {"DJANGO_SUPERUSER_USERNAME": "ann", "DJANGO_SUPERUSER_PASSWORD": "secret-of-ann"}


def lines_for(mode: str, script: Path) -> list[str]:
    """A site of one application at /, as a user writes it."""
    if mode == "embedded":
        return [f'WSGIScriptAlias / "{script}" application-group=%{{GLOBAL}}']
    return ["WSGIDaemonProcess real threads=4", f'WSGIScriptAlias / "{script}" process-group=real']


@pytest.fixture(scope="module")
def started() -> Iterator[Callable[..., Httpd]]:
    servers: list[Httpd] = []

    def start(lines: list[str], **options: object) -> Httpd:
        servers.append(Httpd(lines, **options))  # type: ignore[arg-type]
        return servers[-1].start()

    yield start
    for server in servers:
        end(server)


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """The examples where httpd's user can read and, for the database, write."""
    made = new_root()
    yield made
    shutil.rmtree(made)


def example(root: Path, mode: str, name: str) -> Path:
    copied = root / mode / name
    shutil.copytree(EXAMPLES / name, copied)
    return copied


@pytest.fixture(scope="module")
def flask(mode: str, root: Path, started: Callable[..., Httpd]) -> str:
    folder = example(root, mode, "flask")
    return started([*lines_for(mode, folder / "app.wsgi"), *conf.granted(folder)]).url


@pytest.fixture(scope="module")
def bottle(mode: str, root: Path, started: Callable[..., Httpd]) -> str:
    folder = example(root, mode, "bottle")
    return started([*lines_for(mode, folder / "app.wsgi"), *conf.granted(folder)]).url


@pytest.fixture(scope="module")
def django(mode: str, root: Path, started: Callable[..., Httpd]) -> str:
    folder = example(root, mode, "django")
    data = folder / "data"
    data.mkdir()
    environ = {"GUESTBOOK_DATA": str(data)}
    for command in (
        ["migrate", "--verbosity=0"],
        ["collectstatic", "--noinput", "--verbosity=0"],
        ["createsuperuser", "--noinput", "--email=ann@example.com", "--verbosity=0"],
    ):
        subprocess.run([PYTHON, "manage.py", *command], cwd=folder, env=environ | ADMIN, check=True)
    if os.geteuid() == 0:
        for path in [data, *data.rglob("*")]:
            shutil.chown(path, conf.USER, conf.USER)
    lines = [f'Alias /static "{data}/static"', *lines_for(mode, folder / "wsgi.py")]
    return started([*lines, *conf.granted(folder)], environ=environ).url


def token(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert found, page
    return found.group(1)


def test_flask_answers_json(flask: str) -> None:
    assert requests.post(flask + "/json", json={"a": 2, "b": "x"}, timeout=20).json() == {
        "a": 4,
        "b": "xx",
    }


def test_flask_streams(flask: str) -> None:
    with requests.get(flask + "/stream", stream=True, timeout=20) as response:
        lines = list(response.iter_lines())
    assert lines == [b"line %d" % number for number in range(1000)]


def test_flask_takes_an_upload_of_10_mib(flask: str) -> None:
    data = os.urandom(10 << 20)
    answer = requests.post(flask + "/upload", files={"file": ("big", data)}, timeout=60).json()
    assert answer == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_bottle_answers_a_form(bottle: str) -> None:
    assert (
        requests.post(bottle + "/", data={"name": "Zoë"}, timeout=20).content.decode()
        == "Hello Zoë!"
    )


def test_bottle_yields_lines_and_knows_its_routes(bottle: str) -> None:
    assert requests.get(bottle + "/count/3", timeout=20).text == "0\n1\n2\n"
    assert requests.get(bottle + "/nothing", timeout=20).status_code == 404


def test_django_admin_lets_its_user_in(django: str) -> None:
    with requests.Session() as browser:
        login = f"{django}/admin/login/?next=/admin/"
        page = browser.get(login, timeout=20).text
        form = {"username": "ann", "password": "secret-of-ann", "csrfmiddlewaretoken": token(page)}
        answer = browser.post(login, data=form, timeout=20)
        assert answer.url == f"{django}/admin/"
        assert "guestbook/entry" in answer.text


def test_django_refuses_a_form_without_its_token(django: str) -> None:
    assert requests.post(django + "/", data={"text": "forged"}, timeout=20).status_code == 403


def test_django_keeps_a_session(django: str) -> None:
    with requests.Session() as browser:
        assert [browser.get(django + "/visits", timeout=20).text for _ in range(3)] == [
            "1",
            "2",
            "3",
        ]


def test_django_stores_an_entry_and_gives_its_file_back(django: str) -> None:
    data = os.urandom(3 << 20)
    with requests.Session() as browser:
        form = {
            "text": "with a file",
            "csrfmiddlewaretoken": token(browser.get(django, timeout=20).text),
        }
        page = browser.post(
            django + "/", data=form, files={"file": ("data.bin", data)}, timeout=30
        ).text
        link = re.search(r'href="(file/\d+)"', page)
        assert link, page
        assert browser.get(f"{django}/{link.group(1)}", timeout=30).content == data


def test_static_files_of_django_come_from_httpd(django: str) -> None:
    response = requests.get(django + "/static/admin/css/base.css", timeout=20)
    assert response.status_code == 200
    assert response.headers["ETag"]
