"""pypiserver over the folder `packages` beside this script; uploads without a password."""

import pathlib

import pypiserver

packages = pathlib.Path(__file__).with_name("packages")
application = pypiserver.app(roots=[packages], password_file=".", authenticate=[])
