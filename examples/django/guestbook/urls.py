# SPDX-License-Identifier: Apache-2.0
from django.contrib import admin
from django.urls import path

from . import views

urlpatterns = [
    path("", views.book),
    path("visits", views.visits),
    path("file/<int:key>", views.file),
    path("admin/", admin.site.urls),
]
