# SPDX-License-Identifier: Apache-2.0
from django.contrib import admin

from .models import Entry

admin.site.register(Entry)
