# SPDX-License-Identifier: Apache-2.0
"""Modules that applications import by mod_wsgi's names; the loader puts them in place."""
