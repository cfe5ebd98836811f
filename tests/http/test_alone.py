# SPDX-License-Identifier: Apache-2.0
"""DESIGN 9: a process group reached by one WSGIScriptAlias to a file alone runs it in the main
interpreter; and what is loaded before the first request."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import conf
from harness.client import connected, request, wait_until
from harness.httpd import Httpd

APPS = Path(__file__).parents[1] / "apps"
Start = Callable[..., Httpd]
HOST = "<VirtualHost *>\nServerName {}.invalid\n{}\n</VirtualHost>"


def application_group(server: Httpd, target: str = "/a", host: str = "tests.invalid") -> str:
    with connected(server.address) as connection:
        connection.send(request("GET", target, {"Host": host}))
        response = connection.read_response()
    assert response.status == 200, response
    return str(json.loads(response.body)["application_group"])


@pytest.fixture
def script(folder: Path) -> Path:
    shutil.copy(APPS / "process" / "wsgi.py", folder / "app.py")
    shutil.copy(APPS / "process" / "wsgi.py", folder / "other.py")
    return folder / "app.py"


ALIAS = "WSGIScriptAlias /a {0}/app.py"
GROUP = "WSGIDaemonProcess own"


@pytest.mark.parametrize(
    ("lines", "is_main"),
    [
        ([f"{ALIAS} process-group=own"], True),
        ([ALIAS, "WSGIProcessGroup own"], True),
        (["WSGIScriptAlias /a {0}//x/../app.py process-group=own"], True),
        ([ALIAS, "<Location /a>", "WSGIProcessGroup own", "</Location>"], True),
        ([ALIAS, "<Directory {0}>", "WSGIProcessGroup own", "</Directory>"], True),
        ([f"{ALIAS} process-group=own application-group=x"], False),
        ([f"{ALIAS} process-group=own", "WSGIApplicationGroup %{{RESOURCE}}"], False),
        (
            [f"{ALIAS} process-group=own", "WSGIScriptAlias /b {0}/other.py process-group=own"],
            False,
        ),
        (
            [
                f"{ALIAS} process-group=own",
                "WSGIScriptAlias /b {0}/other.py",
                "<Location /b>",
                "WSGIProcessGroup own",
                "</Location>",
            ],
            False,
        ),
        (
            [
                f"{ALIAS} process-group=own",
                "WSGIScriptAlias /b {0}/other.py",
                "<Location /b>",
                "WSGIProcessGroup %{{ENV:x}}",
                "</Location>",
            ],
            False,
        ),
        (["WSGIScriptAliasMatch ^/a {0}/app.py process-group=own"], False),
        (["WSGIScriptAlias / {0}/ process-group=own"], False),
        (
            [
                f"{ALIAS} process-group=own",
                "WSGIImportScript {0}/other.py process-group=own application-group=%{{GLOBAL}}",
            ],
            False,
        ),
    ],
)
def test_one_alias_to_a_file_runs_in_the_main_interpreter(
    start_httpd: Start, script: Path, lines: list[str], is_main: bool
) -> None:
    own = [line.format(script.parent) for line in lines]
    server = start_httpd([GROUP, *own, *conf.granted(script.parent)])
    target = "/app.py" if "Alias / " in own[0] else "/a"
    assert (application_group(server, target) == "") is is_main


def test_same_alias_in_two_hosts_is_one(start_httpd: Start, script: Path) -> None:
    alias = f"{ALIAS} process-group=own".format(script.parent)
    server = start_httpd(
        [GROUP, *(HOST.format(name, alias) for name in "xy"), *conf.granted(script.parent)]
    )
    assert [application_group(server, host=f"{name}.invalid") for name in "xy"] == ["", ""]


@pytest.mark.parametrize("group", ["%{GLOBAL}", "named"])
@pytest.mark.parametrize("way", ["import", "alias"])
def test_script_is_loaded_before_the_first_request(
    mode: str, start_httpd: Start, folder: Path, group: str, way: str
) -> None:
    folder.chmod(0o777)
    (folder / "early.py").write_text(
        f"open({str(folder / 'loaded')!r}, 'w').close()\n"
        "def application(environ, start_response): return []\n"
    )
    process = "own" if mode == "daemon" else "%{GLOBAL}"
    options = f"process-group={process} application-group={group}"
    directive = "WSGIImportScript" if way == "import" else "WSGIScriptAlias /early"
    start_httpd([GROUP, f"{directive} {folder}/early.py {options}", *conf.granted(folder)])
    wait_until((folder / "loaded").exists, "the script is loaded by itself", 20)
    # The processes are let come to rest before they are stopped.


def test_python_path_is_searched_in_embedded_mode(start_httpd: Start, script: Path) -> None:
    extra = script.parent / "extra"
    (extra / "more").mkdir(parents=True)
    (extra / "names.pth").write_text(f"{extra}/more\n")
    server = start_httpd(
        [f'WSGIPythonPath "{extra}"', ALIAS.format(script.parent), *conf.granted(script.parent)]
    )
    with connected(server.address) as connection:
        connection.send(request("GET", "/a"))
        path = json.loads(connection.read_response().body)["path"]
    assert path.index(str(extra)) < path.index(f"{extra}/more") < 3
