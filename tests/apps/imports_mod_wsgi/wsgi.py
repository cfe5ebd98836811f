# SPDX-License-Identifier: Apache-2.0
"""Answers what the importable module `mod_wsgi` says."""

import json

import mod_wsgi


def application(environ, start_response):
    seen = dict(mod_wsgi.request_data())
    mod_wsgi.request_data()["id"] = environ["mod_wsgi.request_id"]
    print("logged by the application", file=environ["wsgi.errors"])
    facts = {
        "request_data": [seen, mod_wsgi.request_data()],
        "version": list(mod_wsgi.version),
        "process_group": mod_wsgi.process_group,
        "application_group": mod_wsgi.application_group,
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(facts).encode()]
