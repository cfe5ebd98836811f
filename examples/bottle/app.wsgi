# SPDX-License-Identifier: Apache-2.0
"""A form and its answer in one file."""

from bottle import Bottle, request, template

application = app = Bottle()


@app.get("/")
def form():
    return '<form method="post">Name <input name="name"></form>'


@app.post("/")
def greet():
    return template("Hello {{name}}!", name=request.forms.getunicode("name"))


@app.get("/count/<number:int>")
def count(number):
    for value in range(number):
        yield f"{value}\n"
