"""Mercurial's own web application, publishing the repository that HG_REPOSITORY names."""

import pathlib

from mercurial.hgweb import hgweb

repository = pathlib.Path(__file__).with_name("repository")
application = hgweb(bytes(repository))
