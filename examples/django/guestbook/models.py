# SPDX-License-Identifier: Apache-2.0
from django.db import models


class Entry(models.Model):
    """One line in the book, with a file if its author gave one."""

    text = models.CharField(max_length=200)
    file = models.FileField(upload_to="", blank=True)

    def __str__(self):
        return self.text
