# SPDX-License-Identifier: Apache-2.0
"""What httpd's WSGIScriptAlias names."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "guestbook.settings")

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
