"""Directives and their values, seen from inside an application, in both modes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import conf
from harness.client import Response, connected, request
from harness.httpd import Httpd

APPS = Path(__file__).parents[1] / "apps"
Start = Callable[..., Httpd]


@pytest.fixture
def script(folder: Path) -> Path:
    """The application that tells about its process."""
    path = folder / "app.py"
    shutil.copy(APPS / "process" / "wsgi.py", path)
    return path


def get(server: Httpd, target: str = "/", **headers: str) -> Response:
    with connected(server.address) as connection:
        connection.send(request("GET", target, headers))
        return connection.read_response()


def facts(server: Httpd, target: str = "/") -> dict[str, Any]:
    response = get(server, target)
    assert response.status == 200, response
    found: dict[str, Any] = json.loads(response.body)
    return found


def lines(mode: str, script: Path, *more: str, alias: str = "/", options: str = "") -> list[str]:
    """A site of one script; in daemon mode by the process group `own`."""
    group = ["WSGIDaemonProcess own threads=3", "WSGIProcessGroup own"] if mode == "daemon" else []
    own = [*group, f'WSGIScriptAlias {alias} "{script}" {options}', *more]
    return [*own, *conf.granted(script.parent)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("%{GLOBAL}", ""),
        ("chosen", "chosen"),
        ("%{SERVER}", "tests.invalid:{port}"),
        ("%{RESOURCE}", "tests.invalid:{port}|/mount"),
        ("%{HOST}", "tests.invalid:{port}"),
        ("%{ENV:tenant}", "from-env"),
    ],
)
def test_application_group_has_the_value_of_its_token(
    mode: str, start_httpd: Start, script: Path, value: str, expected: str
) -> None:
    more = [f"WSGIApplicationGroup {value}", "SetEnv tenant from-env"]
    server = start_httpd(lines(mode, script, *more, alias="/mount"))
    assert facts(server, "/mount")["application_group"] == expected.format(port=server.address[1])


def test_application_groups_are_interpreters_of_their_own(
    mode: str, start_httpd: Start, folder: Path
) -> None:
    for name in ("a", "b", "c"):
        shutil.copy(APPS / "counts_in_builtins" / "wsgi.py", folder / f"{name}.py")
    group = ["WSGIDaemonProcess own", "WSGIProcessGroup own"] if mode == "daemon" else []
    aliases = [
        f'WSGIScriptAlias /{n} "{folder}/{n}.py" application-group={g}'
        for n, g in (("a", "one"), ("b", "one"), ("c", "two"))
    ]
    server = start_httpd([*group, *aliases, *conf.granted(folder)])
    assert [get(server, f"/{name}").body for name in "abacb"] == [b"1", b"2", b"3", b"1", b"4"]


def test_callable_is_chosen_by_directive_and_by_option(
    mode: str, start_httpd: Start, script: Path
) -> None:
    by_directive = start_httpd(lines(mode, script, "WSGICallableObject other"))
    by_option = start_httpd(lines(mode, script, options="callable-object=other"))
    assert facts(by_directive)["callable"] == facts(by_option)["callable"] == "other"


def test_alias_by_pattern_names_the_script(mode: str, start_httpd: Start, script: Path) -> None:
    made = lines(mode, script)
    made = [line for line in made if not line.startswith("WSGIScriptAlias")]
    pattern = f'WSGIScriptAliasMatch "^/sites/([a-z]+)" "{script.parent}/$1.py"'
    server = start_httpd([*made, pattern])
    assert facts(server, "/sites/app/rest")["file"] == str(script)


def test_mount_at_root_has_an_empty_script_name(
    mode: str, start_httpd: Start, folder: Path
) -> None:
    shutil.copy(APPS / "environ" / "wsgi.py", folder / "app.py")
    server = start_httpd(lines(mode, folder / "app.py"))
    found = facts(server, "/a//b/%20c/")
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("", "/a/b/ c/")
    assert facts(server, "/")["PATH_INFO"] == "/"


def test_specific_alias_first_wins(mode: str, start_httpd: Start, script: Path) -> None:
    group = ["WSGIDaemonProcess own", "WSGIProcessGroup own"] if mode == "daemon" else []
    aliases = [
        f'WSGIScriptAlias /a/b "{script}" callable-object=other',
        f'WSGIScriptAlias /a "{script}"',
    ]
    server = start_httpd([*group, *aliases, *conf.granted(script.parent)])
    assert (facts(server, "/a/b/c")["callable"], facts(server, "/a/bc")["callable"]) == (
        "other",
        "application",
    )


@pytest.mark.parametrize("setting", ["On", "Off"])
def test_authorization_is_passed_on_request(
    mode: str, start_httpd: Start, folder: Path, setting: str
) -> None:
    shutil.copy(APPS / "environ" / "wsgi.py", folder / "app.py")
    server = start_httpd(lines(mode, folder / "app.py", f"WSGIPassAuthorization {setting}"))
    found = json.loads(get(server, "/", Authorization="Basic YTpi").body)
    assert found.get("HTTP_AUTHORIZATION") == ("Basic YTpi" if setting == "On" else None)


def test_encoded_slashes_follow_httpds_setting(mode: str, start_httpd: Start, folder: Path) -> None:
    shutil.copy(APPS / "environ" / "wsgi.py", folder / "app.py")
    server = start_httpd(lines(mode, folder / "app.py", "AllowEncodedSlashes NoDecode"))
    assert facts(server, "/a%2Fb")["PATH_INFO"] == "/a%2Fb"


@pytest.mark.parametrize("setting", ["On", "Off"])
def test_chunked_requests_are_accepted_unless_told_otherwise(
    mode: str, start_httpd: Start, folder: Path, setting: str
) -> None:
    shutil.copy(APPS / "echo" / "wsgi.py", folder / "app.py")
    server = start_httpd(lines(mode, folder / "app.py", f"WSGIChunkedRequest {setting}"))
    server.log.allow("GL0.*chunked|GL0")
    with connected(server.address) as connection:
        connection.send(
            request("POST", "/", {"Transfer-Encoding": "chunked"}) + b"1\r\na\r\n0\r\n\r\n"
        )
        assert connection.read_response().status == (200 if setting == "On" else 411)


def test_module_answers_to_the_names_of_mod_wsgi(
    mode: str, start_httpd: Start, script: Path
) -> None:
    made = lines(mode, script)
    for name in ("mod_wsgi.c", "wsgi_module"):
        made = [f"<IfModule {name}>", *made, "</IfModule>"]
    assert facts(start_httpd(made))["callable"] == "application"


def test_importable_mod_wsgi_tells_the_groups(mode: str, start_httpd: Start, folder: Path) -> None:
    shutil.copy(APPS / "imports_mod_wsgi" / "wsgi.py", folder / "app.py")
    server = start_httpd(lines(mode, folder / "app.py", options="application-group=mine"))
    found = facts(server)
    group = "own" if mode == "daemon" else ""
    assert (found["process_group"], found["application_group"]) == (group, "mine")
    assert len(found["version"]) == 3


@pytest.mark.parametrize("mpm", ["prefork", "worker", "event"])
def test_each_mpm_serves(mode: str, start_httpd: Start, script: Path, mpm: str) -> None:
    found = facts(start_httpd(lines(mode, script), mpm=mpm))
    assert found["multithread"] is (mode == "daemon" or mpm != "prefork")
    assert isinstance(found["multiprocess"], bool)


# What a daemon process option changes inside a worker. embedded mode has no such options.
def worker_facts(start_httpd: Start, script: Path, options: str) -> dict[str, Any]:
    own = [f"WSGIDaemonProcess own {options}", f'WSGIScriptAlias / "{script}" process-group=own']
    return facts(start_httpd([*own, *conf.granted(script.parent)]))


@pytest.mark.parametrize(
    ("options", "key", "value"),
    [
        ("umask=0027", "umask", 0o27),
        ("home=/usr/share", "cwd", "/usr/share"),
        ("threads=1", "multithread", False),
        ("threads=2", "multithread", True),
        ("processes=1", "multiprocess", True),
        ("", "multiprocess", False),
        ("threads=1 maximum-requests=1", "run_once", True),
    ],
)
def test_option_is_seen_in_the_worker(
    start_httpd: Start, script: Path, options: str, key: str, value: object
) -> None:
    assert worker_facts(start_httpd, script, options)[key] == value


def test_lang_and_environ_reach_the_workers_environment(start_httpd: Start, script: Path) -> None:
    found = worker_facts(start_httpd, script, "lang=C.UTF-8")
    assert found["environ"]["LANG"] == "C.UTF-8"


def test_display_name_is_the_workers_title(start_httpd: Start, script: Path) -> None:
    assert "shown-name" in worker_facts(start_httpd, script, "display-name=shown-name")["title"]
    assert "(wsgi:own)" in worker_facts(start_httpd, script, "display-name=%{GROUP}")["title"]


def test_python_path_is_searched(start_httpd: Start, script: Path) -> None:
    extra = script.parent / "extra"
    extra.mkdir()
    assert str(extra) in worker_facts(start_httpd, script, f"python-path={extra}")["path"]


@pytest.mark.privileged
def test_user_and_group_are_the_workers(start_httpd: Start, script: Path) -> None:
    found = worker_facts(start_httpd, script, "user=games group=games")
    assert (found["environ"]["USER"], found["environ"]["LOGNAME"]) == ("games", "games")
    assert found["uid"] not in (0, os.geteuid())
    assert "NoNewPrivs:\t1" in found["status"]


def test_worker_has_no_descriptor_but_its_own(start_httpd: Start, script: Path) -> None:
    """RELIABILITY A2: no log, no listening socket, no shared memory of httpd's."""
    found = worker_facts(start_httpd, script, "")
    foreign = [fd for fd in found["fds"] if fd.startswith("/") and fd not in ("/dev/null",)]
    assert [fd for fd in foreign if "memfd:" not in fd and "/proc/" not in fd] == []


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("WSGIDaemonProcess own threads=many", "threads"),
        ("WSGIDaemonProcess own no-such-option=1", "no-such-option"),
        ("WSGIDaemonProcess own umask=999", "umask"),
        ("WSGIDaemonProcess own\nWSGIDaemonProcess own", "own"),
        ("WSGIScriptReloading maybe", "WSGIScriptReloading"),
        ("WSGIScriptAlias / /x no-such-option=1", "no-such-option"),
        ("WSGIDaemonProcess own shutdown-timeout=5parsecs", "shutdown-timeout"),
        ("WSGIDaemonProcess own user=root", "root"),
    ],
)
def test_mistake_is_named_by_the_syntax_test(line: str, named: str) -> None:
    server = Httpd(line.splitlines())
    try:
        done = server.test_configuration()
        assert done.returncode != 0
        assert named in done.stdout
    finally:
        server.remove()


def test_unknown_process_group_is_a_500_that_names_it(start_httpd: Start, script: Path) -> None:
    server = start_httpd(
        [f'WSGIScriptAlias / "{script}" process-group=nobody', *conf.granted(script.parent)]
    )
    server.log.expect("nobody")
    assert get(server).status == 500


def test_restricted_embedded_mode_runs_nothing_in_httpd(start_httpd: Start, script: Path) -> None:
    server = start_httpd(
        ["WSGIRestrictEmbedded On", f'WSGIScriptAlias / "{script}"', *conf.granted(script.parent)]
    )
    server.log.expect("(?:GL0|WSGIRestrictEmbedded|mbedded)")
    assert get(server).status == 500


def test_wrong_python_home_disables_its_group_only(start_httpd: Start, script: Path) -> None:
    server = start_httpd(
        [
            "WSGIDaemonProcess bad python-home=/nonexistent",
            "WSGIDaemonProcess good",
            f'WSGIScriptAlias /bad "{script}" process-group=bad',
            f'WSGIScriptAlias /good "{script}" process-group=good',
            *conf.granted(script.parent),
        ]
    )
    server.log.expect("/nonexistent")
    server.log.allow("GL0|bad|PG")
    assert get(server, "/bad").status in (500, 503)
    assert facts(server, "/good")["process_group"] == "good"
