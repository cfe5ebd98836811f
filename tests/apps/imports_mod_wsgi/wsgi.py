# SPDX-License-Identifier: Apache-2.0
"""Answers what the importable module `mod_wsgi` says."""

import json

import mod_wsgi


def application(environ, start_response):
    facts = {
        "version": list(mod_wsgi.version),
        "process_group": mod_wsgi.process_group,
        "application_group": mod_wsgi.application_group,
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(facts).encode()]
