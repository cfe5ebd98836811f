# SPDX-License-Identifier: Apache-2.0
"""What an application finds in environ, the same in both modes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from harness.client import Connection, Response, connected, request
from harness.httpd import Httpd


def fetch(site: Httpd, target: str, method: str = "GET", **headers: str) -> Response:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    with connected(site.address) as connection:
        connection.send(request(method, target, named))
        return connection.read_response(method)


def environ_of(site: Httpd, target: str, **headers: str) -> dict[str, Any]:
    response = fetch(site, target, **headers)
    assert response.status == 200, response
    found: dict[str, Any] = json.loads(response.body)
    return found


def environ_sent_raw(site: Httpd, lines: list[bytes]) -> dict[str, Any]:
    with connected(site.address) as connection:
        head = [b"GET /environ HTTP/1.1", b"Host: tests.invalid", *lines]
        connection.send(b"\r\n".join(head) + b"\r\n\r\n")
        found: dict[str, Any] = json.loads(connection.read_response().body)
        return found


def test_cgi_keys_describe_the_request(site: Httpd) -> None:
    environ = environ_of(site, "/environ/a/b?x=1&y=%20", User_Agent="tests")
    host, port = site.address
    expected = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "/environ",
        "PATH_INFO": "/a/b",
        "QUERY_STRING": "x=1&y=%20",
        "REQUEST_URI": "/environ/a/b?x=1&y=%20",
        "SERVER_NAME": "tests.invalid",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_SCHEME": "http",
        "HTTP_HOST": "tests.invalid",
        "HTTP_USER_AGENT": "tests",
        "SERVER_ADDR": host,
        "wsgi.url_scheme": "http",
        "wsgi.input_terminated": True,
        "wsgi.run_once": False,
        "mod_wsgi.callable_object": "application",
        "mod_wsgi.listener_host": host,
        "mod_wsgi.listener_port": str(port),
    }
    assert {key: environ.get(key) for key in expected} == expected
    assert environ["wsgi.version"] == [1, 0]
    assert environ["REMOTE_ADDR"].startswith("127.")
    assert environ["REMOTE_PORT"].isdigit()
    assert environ["SCRIPT_FILENAME"] == str(site.root / "apps/environ/wsgi.py")


def test_keys_of_no_use_to_wsgi_are_absent(site: Httpd) -> None:
    environ = environ_of(site, "/environ")
    absent = {"PATH_TRANSLATED", "GATEWAY_INTERFACE", "REMOTE_HOST", "REMOTE_IDENT", "PATH"}
    absent |= {"CONTENT_TYPE", "CONTENT_LENGTH", "SERVER_SIGNATURE", "HTTPS"}
    assert not absent & environ.keys()
    assert not [key for key in environ if key.startswith("mod_wsgi.x-")]


def test_query_string_is_empty_when_there_is_none(site: Httpd) -> None:
    assert environ_of(site, "/environ")["QUERY_STRING"] == ""


def test_absolute_request_target_leaves_no_host_in_request_uri(site: Httpd) -> None:
    environ = environ_of(site, "http://tests.invalid/environ/x?y")
    assert environ["REQUEST_URI"] == "/environ/x?y"


@pytest.mark.parametrize(
    ("target", "script_name", "path_info"),
    [
        ("/environ", "/environ", ""),
        ("/environ/", "/environ", "/"),
        ("/environ//a///b", "/environ", "/a/b"),
        ("/environ/a%20b", "/environ", "/a b"),
        ("/environ/%C3%A9", "/environ", "/\u00c3\u00a9"),
        ("/environ/%ff%fe", "/environ", "/\u00ff\u00fe"),
        ("//environ/a", "/environ", "/a"),
        ("/environ/a/../b", "/environ", "/b"),
        ("/environ/a%3fb", "/environ", "/a?b"),
        ("/environ/%e2%80%a6;x=1", "/environ", "/\u00e2\u0080\u00a6;x=1"),
    ],
)
def test_path_is_split_at_the_mount(
    site: Httpd, target: str, script_name: str, path_info: str
) -> None:
    environ = environ_of(site, target)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script_name, path_info)


@pytest.mark.parametrize("target", ["/environ/a%2Fb", "/environ/%00", "/environ/a%00b"])
def test_encoded_slash_and_nul_are_not_found(site: Httpd, target: str) -> None:
    site.log.allow(r"AH00026|invalid URI|%2f|AH10244")
    assert fetch(site, target).status in (400, 404)


def test_environment_of_httpd_sections_reaches_environ(site: Httpd) -> None:
    assert environ_of(site, "/environ")["files"] == str(site.root / "files")


def test_head_is_seen_as_head(site: Httpd) -> None:
    assert fetch(site, "/environ", "HEAD").status == 200


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (b"Proxy", "HTTP_PROXY"),
        (b"X_User", "HTTP_X_USER"),
        (b"X.User", "HTTP_X_USER"),
        (b"Content_Length", "HTTP_CONTENT_LENGTH"),
    ],
)
def test_header_that_could_pass_for_another_is_dropped(site: Httpd, name: bytes, key: str) -> None:
    assert key not in environ_sent_raw(site, [name + b": 1"])


@pytest.mark.parametrize(
    "lines",
    [
        [b"X-User: real", b"X_User: forged"],
        [b"X_User: forged", b"X-User: real"],
        [b"X.User: forged", b"X-User: real"],
        [b"X-User: real", b"X.User: forged"],
    ],
)
def test_real_header_survives_its_forged_twin(site: Httpd, lines: list[bytes]) -> None:
    assert environ_sent_raw(site, lines)["HTTP_X_USER"] == "real"


@pytest.mark.parametrize(
    ("line", "key", "other"),
    [
        (b"Script-Name: /x", "HTTP_SCRIPT_NAME", "SCRIPT_NAME"),
        (b"Remote-User: x", "HTTP_REMOTE_USER", "REMOTE_USER"),
        (b"Auth-Type: x", "HTTP_AUTH_TYPE", "AUTH_TYPE"),
        (b"Https: on", "HTTP_HTTPS", "HTTPS"),
        (b"Path-Info: x", "HTTP_PATH_INFO", "PATH_INFO"),
    ],
)
def test_headers_become_http_keys_only(site: Httpd, line: bytes, key: str, other: str) -> None:
    plain = environ_sent_raw(site, [])
    environ = environ_sent_raw(site, [line])
    assert key in environ
    assert environ.get(other) == plain.get(other)


def test_header_names_with_dots_set_no_wsgi_key(site: Httpd) -> None:
    environ = environ_sent_raw(site, [b"Wsgi.Input: x", b"Mod-Wsgi.Process-Group: x"])
    assert not [key for key, value in environ.items() if value == "x"]


def test_repeated_request_headers_are_joined(site: Httpd) -> None:
    assert environ_sent_raw(site, [b"X-Two: a", b"X-Two: b"])["HTTP_X_TWO"] == "a, b"


def test_header_bytes_are_latin1(site: Httpd) -> None:
    assert environ_sent_raw(site, [b"X-Raw: \xe9\xff"])["HTTP_X_RAW"] == "\u00e9\u00ff"


def test_authorization_is_hidden(site: Httpd) -> None:
    environ = environ_of(
        site, "/environ", Authorization="Basic YTpi", Proxy_Authorization="Basic x"
    )
    assert "HTTP_AUTHORIZATION" not in environ
    assert "HTTP_PROXY_AUTHORIZATION" not in environ


def test_long_headers_arrive_whole(site: Httpd) -> None:
    lines = [b"X-%d: %s" % (number, b"v" * 8000) for number in range(90)]
    environ = environ_sent_raw(site, lines)
    assert [len(environ[f"HTTP_X_{number}"]) for number in range(90)] == [8000] * 90


def test_header_beyond_httpds_limit_is_refused(site: Httpd) -> None:
    site.log.allow(r"AH00561|AH00567|AH0056")
    connection = Connection(site.address)
    connection.send(b"GET /environ HTTP/1.1\r\nHost: x\r\nX: " + b"v" * 9000 + b"\r\n\r\n")
    assert connection.read_head().status == 400
    connection.close()
