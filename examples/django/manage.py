#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Django's command for this project."""

import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "guestbook.settings")
execute_from_command_line(sys.argv)
