# SPDX-License-Identifier: Apache-2.0
from django.forms import ModelForm
from django.http import FileResponse, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from .models import Entry


class EntryForm(ModelForm):
    class Meta:
        model = Entry
        fields = ("text", "file")


def book(request):
    form = EntryForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        form.save()
        return redirect("/")
    return render(request, "book.html", {"form": form, "entries": Entry.objects.all()})


def visits(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(str(request.session["visits"]))


def file(request, key):
    return FileResponse(get_object_or_404(Entry, pk=key).file.open())
