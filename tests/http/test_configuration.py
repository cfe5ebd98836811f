# SPDX-License-Identifier: Apache-2.0
"""Directives and their values, seen from inside an application, in both modes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import census, client, conf
from harness.client import Response, ask, chunked
from harness.httpd import Httpd, complaint
from harness.site import MODE_LINES

APPS = Path(__file__).parents[1] / "apps"
Start = Callable[..., Httpd]


@pytest.fixture
def script(folder: Path) -> Path:
    """The application that tells about its process."""
    path = folder / "app.py"
    shutil.copy(APPS / "process" / "wsgi.py", path)
    return path


def get(server: Httpd, target: str = "/", **headers: str) -> Response:
    return ask(server.address, target, headers=headers)


def facts(server: Httpd, target: str = "/", **headers: str) -> dict[str, Any]:
    return client.facts(server.address, target, **headers)


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
        ("%{SERVER}", "named.invalid:8123"),
        ("%{RESOURCE}", "named.invalid:8123|/mount"),
        ("%{HOST}", "asked.invalid:8123"),
        ("%{ENV:tenant}", "from-env"),
        ("%{ENV:absent}", "%{ENV:absent}"),
        ("%{ENV:token}", "named.invalid:8123"),
    ],
)
def test_application_group_has_the_value_of_its_token(
    mode: str, start_httpd: Start, script: Path, value: str, expected: str
) -> None:
    more = [f"WSGIApplicationGroup {value}", "ServerName named.invalid:8123"]
    more += ["SetEnv tenant from-env", "SetEnv token %{SERVER}"]
    server = start_httpd(lines(mode, script, *more, alias="/mount"))
    assert facts(server, "/mount", Host="asked.invalid")["application_group"] == expected


def test_servers_of_the_standard_port_are_named_without_it(
    mode: str, start_httpd: Start, script: Path
) -> None:
    server = start_httpd(lines(mode, script, "WSGIApplicationGroup %{SERVER}"))
    assert facts(server)["application_group"] == "tests.invalid"


@pytest.mark.parametrize("token", ["%{SERVER}", "%{RESOURCE}", "%{HOST}"])
def test_port_that_only_a_client_names_makes_no_application_group(
    mode: str, start_httpd: Start, script: Path, token: str
) -> None:
    """RELIABILITY C 15: each would load the application once more. httpd's own port stays."""
    server = start_httpd(lines(mode, script, f"WSGIApplicationGroup {token}"))
    port = server.address[1]
    found = {
        facts(server, "/", Host=f"tests.invalid:{asked}")["application_group"]
        for asked in (1, 81, 8080, 65535, port)
    }
    assert found == {f"tests.invalid:{port}" + ("|" if "RESOURCE" in token else "")}


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


def test_pattern_that_ends_within_a_word_leads_to_no_script(
    mode: str, start_httpd: Start, folder: Path
) -> None:
    """What follows would be a PATH_INFO without its slash."""
    shutil.copy(APPS / "environ" / "wsgi.py", folder / "app.py")
    made = [line for line in lines(mode, script=folder / "app.py") if "WSGIScriptAlias" not in line]
    server = start_httpd([*made, f'WSGIScriptAliasMatch "^/sho" "{folder}/app.py"'])
    server.log.expect("GL0205.*app.pyp$")
    assert get(server, "/shop").status == 404
    assert facts(server, "/sho/p")["PATH_INFO"] == "/p"


def test_mount_at_root_has_an_empty_script_name(
    mode: str, start_httpd: Start, folder: Path
) -> None:
    shutil.copy(APPS / "environ" / "wsgi.py", folder / "app.py")
    server = start_httpd(lines(mode, folder / "app.py"))
    found = facts(server, "/a//b/%20c/")
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("", "/a/b/ c/")
    assert facts(server, "/")["PATH_INFO"] == "/"


@pytest.mark.parametrize(
    ("mount", "path"),
    [("", "/a//b"), ("", "/a//"), ("", "/a//a"), ("/m", "//"), ("/m", "//a//b"), ("/m", "//a/a")],
)
def test_repeated_slashes_that_httpd_leaves_are_of_path_info(
    mode: str, start_httpd: Start, folder: Path, mount: str, path: str
) -> None:
    """RELIABILITY B3.27: SCRIPT_NAME + PATH_INFO is the path that access control saw."""
    shutil.copy(APPS / "environ" / "wsgi.py", folder / "app.py")
    made = lines(mode, folder / "app.py", "MergeSlashes Off", alias=mount or "/")
    found = facts(start_httpd(made), mount + path)
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == (mount, path)
    assert (found["mod_wsgi.script_name"], found["mod_wsgi.path_info"]) == (mount, path)


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


def host(name: str, *lines: str) -> list[str]:
    return ["<VirtualHost *>", f"ServerName {name}.invalid", *lines, "</VirtualHost>"]


def section(name: str, of: object, *lines: str) -> list[str]:
    return [f'<{name} "{of}">', *lines, f"</{name}>"]


def test_inner_value_replaces_an_outer_one(mode: str, start_httpd: Start, script: Path) -> None:
    """Main server, virtual host, then the sections in httpd's order, in the host and outside."""
    folder = section("Directory", script.parent, "WSGIApplicationGroup folder")
    own = section("Location", "/m/here", "WSGIApplicationGroup location")
    files = section("Files", "app.py", "WSGICallableObject other")
    alias = f'WSGIScriptAlias /h "{script}"'
    main = ["WSGIApplicationGroup main", "WSGICallableObject absent", *folder]
    hosts = [
        *host("plain", "WSGICallableObject application"),
        *host("files", alias, *own, *files),
        *host("option", f"{alias} application-group=option callable-object=other", *own),
    ]
    server = start_httpd([*lines(mode, script, *main, alias="/m"), *hosts])

    def found(target: str, name: str) -> tuple[str, str]:
        told = facts(server, target, Host=f"{name}.invalid")
        return told["application_group"], told["callable"]

    assert found("/m", "plain") == ("folder", "application")
    assert found("/m", "files") == ("folder", "other")
    assert found("/m/here/x", "files") == ("location", "other")
    assert found("/h", "option") == ("option", "other")
    server.log.expect("'absent'")
    assert get(server, "/m", Host="option.invalid").status == 404


def test_alias_of_a_virtual_host_comes_before_those_of_the_main_server(
    mode: str, start_httpd: Start, script: Path
) -> None:
    own = f'WSGIScriptAlias / "{script}" callable-object=other'
    server = start_httpd([*lines(mode, script, alias="/a/b"), *host("own", own), *host("none")])
    assert facts(server, "/a/b/c", Host="own.invalid")["callable"] == "other"
    assert facts(server, "/a/b/c", Host="none.invalid")["callable"] == "application"


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
    if setting == "Off":
        server.log.expect("GL0209")
    coding = {"Transfer-Encoding": "chunked"}
    response = ask(server.address, "/", "POST", coding, chunked(b"a"))
    assert response.status == (200 if setting == "On" else 411)


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
    server.log.expect("logged by the application")
    found = facts(server)
    group = "own" if mode == "daemon" else ""
    assert (found["process_group"], found["application_group"]) == (group, "mine")
    assert len(found["version"]) == 3


def test_request_has_an_id_of_its_own_which_httpds_logs_have_too(
    mode: str, start_httpd: Start, folder: Path
) -> None:
    """%L of both logs. What mod_wsgi.request_data() keeps is kept under it."""
    shutil.copy(APPS / "imports_mod_wsgi" / "wsgi.py", folder / "app.py")
    logs = [f'CustomLog "{folder}/access.log" "id=%L"']
    logs += ['ErrorLogFormat "[%t] [%-m:%l] [pid %P] id=%L %M"']
    server = start_httpd(lines(mode, folder / "app.py", *logs), modules=("log_config",))
    server.log.expect("logged by the application")
    with client.connected(server.address) as connection:
        connection.send(client.request("GET", "/") * 3)
        found = [json.loads(connection.read_response().body)["request_data"] for _ in range(3)]
    ids = [data["id"] for _, data in found]
    assert [seen for seen, _ in found] == [{}, {}, {}]
    assert len({*ids, ""}) == 4
    for number in ids:
        server.log.wait_for(re.escape(f"id={number} logged by the application"))
    access = folder / "access.log"
    client.wait_until(lambda: len(access.read_text().splitlines()) == 3, "all is in the log")
    assert access.read_text().splitlines() == [f"id={number}" for number in ids]


@pytest.mark.parametrize("mpm", ["prefork", "worker", "event"])
def test_each_mpm_serves(mode: str, start_httpd: Start, script: Path, mpm: str) -> None:
    found = facts(start_httpd(lines(mode, script), mpm=mpm))
    assert found["multithread"] is (mode == "daemon" or mpm != "prefork")
    assert isinstance(found["multiprocess"], bool)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("WSGIDaemonProcess own\nWSGIDaemonProcess own", "own"),
        ("WSGIScriptReloading maybe", "WSGIScriptReloading"),
        ("WSGIScriptAlias / /x no-such-option=1", "no-such-option"),
        ("WSGIScriptAlias /", "WSGIScriptAlias"),
        ("WSGIScriptAliasMatch ^(/ /x", "WSGIScriptAliasMatch"),
        ("WSGIImportScript /x", "process-group"),
        ("WSGIPassAuthorization 1", "WSGIPassAuthorization"),
        ("WSGIRestrictEmbedded maybe", "WSGIRestrictEmbedded"),
        ("WSGIChunkedRequest", "WSGIChunkedRequest takes one argument, On or Off"),
        ("<Directory />\nWSGIPythonHome /usr\n</Directory>", "WSGIPythonHome"),
        ("<Directory />\nWSGIDaemonProcess own\n</Directory>", "WSGIDaemonProcess"),
    ],
)
def test_mistake_is_named_by_the_syntax_test(line: str, named: str) -> None:
    assert named in complaint(line.splitlines())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("WSGIScriptAlias / /srv/app.py process-group=nosuch", "GL0102.*'nosuch'"),
        ("WSGIProcessGroup nosuch", r"GL0102: WSGIProcessGroup \(.*/httpd.conf:\d+\).*'nosuch'"),
        ("WSGIProcessGroup %{Global}", r"GL0102.*'%\{Global\}'"),
        ("WSGIProcessGroup %{ENV:x", r"GL0102.*'%\{ENV:x'"),
        (
            "<VirtualHost *>\nServerName a\nWSGIDaemonProcess own\n</VirtualHost>\n"
            "<VirtualHost *>\nServerName b\nWSGIProcessGroup own\n</VirtualHost>",
            r"GL0107: WSGIProcessGroup \(.*:\d+\): 'own' .*another ServerName \(.*:\d+\)",
        ),
        (
            "<WSGIInterpreterOptions application-group=a>\nWSGIFreeThreading On\n"
            "</WSGIInterpreterOptions>",
            r"GL0404: WSGIFreeThreading .*application-group= .*\(.*:\d+\)",
        ),
        ("WSGIScriptAlias app /srv/app.py", r"GL0108: WSGIScriptAlias \(.*:\d+\): 'app'"),
        ("WSGIScriptAlias / /srv/app.py", "GL0105.*pyglue check"),
        ("WSGIDaemonProcess own", "GL0105.*pyglue check"),
        ("WSGIDaemonProcess a\nWSGIDaemonProcess b\nWSGIDaemonProcess c", "GL0110.*'a' and 'b'"),
    ],
)
def test_syntax_test_tells_what_it_cannot_refuse(line: str, said: str) -> None:
    server = Httpd(line.splitlines())
    try:
        done = server.test_configuration()
        assert done.returncode == 0
        assert re.search(said, done.stdout)
    finally:
        server.remove()


@pytest.mark.parametrize(
    "line",
    ["%{GLOBAL}", "%{SERVER}", "%{HOST}", "%{RESOURCE}", "%{ENV:x}"],
)
def test_syntax_test_does_not_ask_for_what_only_requests_tell(line: str) -> None:
    server = Httpd([f"WSGIProcessGroup {line}"])
    try:
        assert "GL0" not in server.test_configuration().stdout
    finally:
        server.remove()


def test_unknown_process_group_is_a_500_that_names_it(start_httpd: Start, script: Path) -> None:
    server = start_httpd(
        [f'WSGIScriptAlias / "{script}" process-group=nobody', *conf.granted(script.parent)]
    )
    server.log.expect("nobody")
    assert get(server).status == 500


@pytest.mark.looks_inside
def test_restricted_embedded_mode_runs_nothing_in_httpd(start_httpd: Start, script: Path) -> None:
    server = start_httpd(
        ["WSGIRestrictEmbedded On", f'WSGIScriptAlias / "{script}"', *conf.granted(script.parent)]
    )
    server.log.expect("GL0403.*WSGIRestrictEmbedded")
    assert get(server).status == 500
    for pid in server.processes():
        if "-f" in census.command(pid):
            assert "libpython" not in Path(f"/proc/{pid}/maps").read_text()


# Process groups.


def chosen(folder: Path, *more: str) -> list[str]:
    """The script at /, and two process groups."""
    groups = ["WSGIDaemonProcess a", "WSGIDaemonProcess b", "WSGIApplicationGroup %{GLOBAL}"]
    return [*groups, f'WSGIScriptAlias / "{folder}/app.py"', *more, *conf.granted(folder)]


BY_HEADER = ['SetEnvIf X-Group "(.+)" group=$1', "WSGIProcessGroup %{ENV:group}"]


@pytest.mark.parametrize(("value", "group"), [("a", "a"), ("b", "b"), ("%{GLOBAL}", "")])
def test_variable_picks_the_process_group(
    start_httpd: Start, script: Path, value: str, group: str
) -> None:
    server = start_httpd(chosen(script.parent, *BY_HEADER))
    assert facts(server, "/", **{"X-Group": value})["process_group"] == group


@pytest.mark.parametrize("value", ["no-such-group", "../a", "A", "a" * 4000])
def test_variable_with_an_unknown_process_group_is_a_500(
    start_httpd: Start, script: Path, value: str
) -> None:
    server = start_httpd(chosen(script.parent, *BY_HEADER))
    server.log.expect("GL0202.*" + re.escape(value[:100]))
    assert get(server, "/", **{"X-Group": value}).status == 500


def test_variable_that_is_not_set_names_no_process_group(start_httpd: Start, script: Path) -> None:
    server = start_httpd(chosen(script.parent, *BY_HEADER))
    server.log.expect(r"GL0202.*%{ENV:group}")
    assert get(server).status == 500


@pytest.mark.parametrize(
    ("token", "name"),
    [
        ("%{SERVER}", "named.invalid:8123"),
        ("%{HOST}", "asked.invalid:8123"),
        ("%{RESOURCE}", "named.invalid:8123|"),
    ],
)
def test_process_group_has_the_value_of_its_token(
    start_httpd: Start, script: Path, token: str, name: str
) -> None:
    more = [f'WSGIDaemonProcess "{name}"', f"WSGIProcessGroup {token}"]
    server = start_httpd(chosen(script.parent, "ServerName named.invalid:8123", *more))
    assert facts(server, "/", Host="asked.invalid")["process_group"] == name


def test_group_of_a_virtual_host_serves_that_server_name_only(
    start_httpd: Start, script: Path
) -> None:
    hosts = [
        line
        for name, own in (("one", "WSGIDaemonProcess private"), ("one", ""), ("two", ""))
        for line in ("<VirtualHost *>", f"ServerName {name}.invalid", own, "</VirtualHost>")
    ]
    server = start_httpd(chosen(script.parent, "WSGIProcessGroup private", *hosts))
    server.log.expect("GL0203.*private")
    assert facts(server, "/", Host="one.invalid")["process_group"] == "private"
    assert get(server, "/", Host="two.invalid").status == 500


@pytest.mark.parametrize(
    ("allowed", "status"),
    [("a", [200, 500, 500]), ("a b", [200, 200, 500]), ("%{GLOBAL} b", [500, 200, 200])],
)
def test_restricted_process_groups_may_serve_no_other_section(
    start_httpd: Start, script: Path, allowed: str, status: list[int]
) -> None:
    server = start_httpd(chosen(script.parent, *BY_HEADER, f"WSGIRestrictProcess {allowed}"))
    server.log.expect("GL0201")
    tried = [get(server, "/", **{"X-Group": name}).status for name in ("a", "b", "%{GLOBAL}")]
    assert tried == status


def test_section_overrides_the_group_of_the_server(start_httpd: Start, script: Path) -> None:
    inner = ["<Location /inner>", "WSGIProcessGroup b", "</Location>"]
    server = start_httpd(chosen(script.parent, "WSGIProcessGroup a", *inner))
    assert facts(server, "/outer")["process_group"] == "a"
    assert facts(server, "/inner/x")["process_group"] == "b"


# Ways to a script.


def test_variable_picks_the_callable(mode: str, start_httpd: Start, script: Path) -> None:
    more = ['SetEnvIf X-Which "(.+)" which=$1', "WSGICallableObject %{ENV:which}"]
    server = start_httpd(lines(mode, script, *more))
    assert facts(server, "/", **{"X-Which": "other"})["callable"] == "other"


def in_files(mode: str, folder: Path, *inside: str, more: tuple[str, ...] = ()) -> list[str]:
    """The script's folder at /files."""
    alias = [f'Alias /files "{folder}"', *more, *MODE_LINES[mode]]
    return [*alias, *conf.granted(folder, *inside)]


@pytest.mark.parametrize("handler", ["wsgi-script", "application/x-httpd-wsgi"])
@pytest.mark.parametrize(
    "way", ["AddHandler {} .py", '<Files "app.py">\nSetHandler {}\n</Files>', "SetHandler {}"]
)
def test_handler_makes_a_file_an_application(
    mode: str, start_httpd: Start, script: Path, handler: str, way: str
) -> None:
    inside = ["Options +ExecCGI", *way.format(handler).splitlines()]
    server = start_httpd(in_files(mode, script.parent, *inside))
    assert facts(server, "/files/app.py/more")["file"] == str(script)


def test_rewritten_url_reaches_the_script_with_its_rest(
    mode: str, start_httpd: Start, folder: Path
) -> None:
    """The idiom of mod_wsgi's documentation: [QSA,PT,L]."""
    shutil.copy(APPS / "environ" / "wsgi.py", folder / "app.wsgi")
    rewrite = ["RewriteEngine On", "RewriteRule ^/site/(.*)$ /files/app.wsgi/$1 [QSA,PT,L]"]
    inside = ["Options +ExecCGI", "AddHandler wsgi-script .wsgi"]
    server = start_httpd(in_files(mode, folder, *inside, more=(*rewrite,)))
    found = facts(server, "/site/a/b?x=1")
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("/files/app.wsgi", "/a/b")
    assert (found["QUERY_STRING"], found["REQUEST_URI"]) == ("x=1", "/site/a/b?x=1")


def test_script_is_a_directory_index(mode: str, start_httpd: Start, folder: Path) -> None:
    shutil.copy(APPS / "environ" / "wsgi.py", folder / "index.wsgi")
    inside = ["Options +ExecCGI", "AddHandler wsgi-script .wsgi", "DirectoryIndex index.wsgi"]
    server = start_httpd(in_files(mode, folder, *inside))
    found = facts(server, "/files/?x=1")
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("/files/index.wsgi", "")
    assert (found["REQUEST_URI"], found["QUERY_STRING"]) == ("/files/?x=1", "x=1")


def test_path_below_a_script_is_not_found_where_path_info_is_off(
    mode: str, start_httpd: Start, script: Path
) -> None:
    server = start_httpd(lines(mode, script, "AcceptPathInfo Off", alias="/mount"))
    server.log.expect("GL0207")
    assert get(server, "/mount").status == 200
    assert get(server, "/mount/more").status == 404


def test_access_control_of_the_scripts_folder_holds(
    mode: str, start_httpd: Start, script: Path
) -> None:
    denied = [f'<Directory "{script.parent}">', "Require all denied", "</Directory>"]
    server = start_httpd([*lines(mode, script), *denied])
    server.log.expect("AH01630")
    assert get(server).status == 403


def test_pattern_takes_the_options_of_an_alias(mode: str, start_httpd: Start, script: Path) -> None:
    made = [line for line in lines(mode, script) if not line.startswith("WSGIScriptAlias")]
    pattern = f'WSGIScriptAliasMatch "^/([a-z]+)/" "{script.parent}/$1.py" callable-object=other'
    assert facts(start_httpd([*made, pattern]), "/app/rest")["callable"] == "other"


# .htaccess


def with_htaccess(mode: str, folder: Path, text: str) -> list[str]:
    (folder / ".htaccess").write_text(text)
    return [*MODE_LINES[mode], f'WSGIScriptAlias / "{folder}/app.py"',
            *conf.granted(folder, "AllowOverride FileInfo")]  # fmt: skip


def test_htaccess_may_name_the_callable(mode: str, start_httpd: Start, script: Path) -> None:
    server = start_httpd(with_htaccess(mode, script.parent, "WSGICallableObject other\n"))
    assert facts(server)["callable"] == "other"


@pytest.mark.parametrize(
    "line", ["WSGIProcessGroup own", "WSGIApplicationGroup x", "WSGIRestrictProcess own"]
)
def test_htaccess_may_not_choose_where_code_runs(
    mode: str, start_httpd: Start, script: Path, line: str
) -> None:
    server = start_httpd(with_htaccess(mode, script.parent, line + "\n"))
    server.log.expect(f"{line.split()[0]} not allowed here")
    assert get(server).status == 500


# Credentials.

CREDENTIALS = {"Authorization": "Basic YTpi", "Proxy-Authorization": "Basic cDpw"}


@pytest.mark.parametrize(
    ("line", "options", "seen"),
    [
        ("", "", set()),
        ("WSGIPassAuthorization On", "", {"HTTP_AUTHORIZATION"}),
        ("", "pass-authorization=On", {"HTTP_AUTHORIZATION"}),
        ("WSGIPassAuthorization On", "pass-authorization=Off", set()),
        ("WSGIPassAuthorization Off", "", set()),
        ("CGIPassAuth On", "", {"HTTP_AUTHORIZATION", "HTTP_PROXY_AUTHORIZATION"}),
    ],
)
def test_credentials_are_passed_as_configured(
    mode: str, start_httpd: Start, folder: Path, line: str, options: str, seen: set[str]
) -> None:
    shutil.copy(APPS / "environ" / "wsgi.py", folder / "app.py")
    section = [f'<Directory "{folder}">', line, "</Directory>"]
    server = start_httpd([*lines(mode, folder / "app.py", options=options), *section])
    found = facts(server, "/", **CREDENTIALS)
    assert {key for key in found if key.endswith("AUTHORIZATION")} == seen


# What is httpd's.


def test_error_document_of_httpd_is_sent_where_the_application_failed(
    mode: str, start_httpd: Start, folder: Path
) -> None:
    shutil.copy(APPS / "raises" / "wsgi.py", folder / "app.py")
    server = start_httpd(lines(mode, folder / "app.py", 'ErrorDocument 500 "own page"'))
    server.log.expect_traceback("raised before")
    response = get(server, "/?before")
    assert (response.status, response.body) == (500, b"own page")


@pytest.mark.parametrize("qualified", ["On", "Off"])
def test_error_document_may_be_an_application(
    mode: str, start_httpd: Start, folder: Path, qualified: str
) -> None:
    """It is a GET without a body, whatever the failed request has read of its own."""
    shutil.copy(APPS / "is_its_error_document" / "wsgi.py", folder / "app.py")
    more = ["ErrorDocument 500 /page?asked", "ErrorDocument 413 /page", "LimitRequestBody 100"]
    more += [f"QualifyRedirectURL {qualified}"]
    server = start_httpd(lines(mode, folder / "app.py", *more))
    server.log.expect_traceback("raised on purpose")
    server.log.expect("GL0211")
    first = "http://tests.invalid" if qualified == "On" else ""
    for target, size in (("/x?0", 9), ("/x?4", 9), ("/x?9", 9), ("/x?9", 101)):
        response = ask(server.address, target, "POST", body=b"b" * size)
        seen = json.loads(response.body)
        assert (response.status, seen["body"], "CONTENT_LENGTH" in seen) == (200, "", False)
        assert (seen["REQUEST_METHOD"], seen["PATH_INFO"]) == ("GET", "/page")
        assert (seen["REDIRECT_STATUS"], seen["QUERY_STRING"]) in [("500", "asked"), ("413", "")]
        assert (seen["REDIRECT_URL"], seen["REDIRECT_QUERY_STRING"]) == (first + "/x", target[3:])
        assert (seen["REQUEST_URI"], seen["REDIRECT_REQUEST_METHOD"]) == (target, "POST")


@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_what_a_failed_request_left_unread_is_not_the_next_one(
    mode: str, start_httpd: Start, folder: Path, coding: str
) -> None:
    """Also where the error document was told of no body."""
    shutil.copy(APPS / "is_its_error_document" / "wsgi.py", folder / "app.py")
    page = ["ErrorDocument 403 /page", '<Location "/denied">', "Require all denied", "</Location>"]
    server = start_httpd(lines(mode, folder / "app.py", *page))
    server.log.expect("AH01630")
    body = client.request("GET", "/page?smuggled")
    headers = {"Transfer-Encoding": "chunked"} if coding == "chunked" else {}
    sent = client.request("POST", "/denied", headers, chunked(body) if headers else body)
    with client.connected(server.address) as connection:
        connection.send(sent + client.request("GET", "/page?next"))
        assert json.loads(connection.read_response().body)["REDIRECT_URL"] == "/denied"
        assert json.loads(connection.read_response().body)["QUERY_STRING"] == "next"


def test_user_whom_httpd_has_authenticated_is_told(
    mode: str, start_httpd: Start, folder: Path
) -> None:
    """And nothing of what the client or SetEnv say instead."""
    shutil.copy(APPS / "environ" / "wsgi.py", folder / "app.py")
    digest = base64.b64encode(hashlib.sha1(b"secret").digest()).decode()
    (folder / "users").write_text(f"me:{{SHA}}{digest}\n")
    auth = ["AuthType Basic", "AuthName realm", f'AuthUserFile "{folder}/users"']
    more = ["<Location /private>", *auth, "Require valid-user", "</Location>"]
    more += ["SetEnv REMOTE_USER forged", "SetEnv AUTH_TYPE forged", "SetEnv REMOTE_ADDR forged"]
    more += ["SetEnv HTTP_HOST forged", "SetEnv SERVER_NAME forged", "SetEnv PATH_INFO forged"]
    server = start_httpd(lines(mode, folder / "app.py", *more))
    basic = "Basic " + base64.b64encode(b"me:secret").decode()
    found = facts(server, "/private", Authorization=basic)
    assert (found["REMOTE_USER"], found["AUTH_TYPE"]) == ("me", "Basic")
    assert [key for key, value in found.items() if value == "forged"] == []


@pytest.mark.parametrize(("line", "expected"), [("", "/a//b?c"), ("current-uri", "/a/b")])
def test_request_uri_is_as_cgivar_says(
    mode: str, start_httpd: Start, folder: Path, line: str, expected: str
) -> None:
    shutil.copy(APPS / "environ" / "wsgi.py", folder / "app.py")
    section = conf.granted(folder, f"CGIVar REQUEST_URI {line}") if line else []
    server = start_httpd([*lines(mode, folder / "app.py"), *section])
    found = facts(server, "/a//b?c")
    assert (found["REQUEST_URI"], found["RAW_URI"]) == (expected, "/a//b?c")


@pytest.mark.parametrize(
    "line",
    [
        "WSGILazyInitialization On",
        "WSGISocketRotation Off",
        "WSGIAcceptMutex default",
        "WSGIVerboseDebugging On",
        "<Directory />\nWSGIUserAuthoritative On\n</Directory>",
    ],
)
def test_directive_without_effect_is_accepted_with_a_notice(line: str) -> None:
    server = Httpd(line.splitlines())
    try:
        assert server.test_configuration().returncode == 0
    finally:
        server.remove()
