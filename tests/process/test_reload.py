# SPDX-License-Identifier: Apache-2.0
"""Touched, broken and mended scripts; crash loops; groups that cannot start."""
