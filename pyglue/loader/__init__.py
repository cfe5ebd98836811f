# SPDX-License-Identifier: Apache-2.0
"""Runs inside an interpreter, beside the application: prepares it and loads scripts."""
