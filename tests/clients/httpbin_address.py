"""A pytest plugin for the suite of requests: its fixture `httpbin` is the server at HTTPBIN_URL."""

from __future__ import annotations

import os
import types

import pytest


@pytest.fixture(scope="session")
def httpbin() -> types.SimpleNamespace:
    return types.SimpleNamespace(url=os.environ["HTTPBIN_URL"])
