# SPDX-License-Identifier: Apache-2.0
"""mod_pyglue: serves Python WSGI applications from Apache httpd. `README.md` here is the map."""

__version__ = "0.1.0"
