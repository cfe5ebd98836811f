# SPDX-License-Identifier: Apache-2.0
"""JSON, a streamed response, and uploads of any size."""

import hashlib

from flask import Flask, Response, jsonify, request

application = app = Flask(__name__)


@app.get("/")
def index():
    return "<form method=post action=upload enctype=multipart/form-data><input type=file name=file><input type=submit></form>"


@app.post("/json")
def double():
    return jsonify({key: value * 2 for key, value in request.get_json().items()})


@app.get("/stream")
def stream():
    return Response((f"line {number}\n" for number in range(1000)), mimetype="text/plain")


@app.post("/upload")
def upload():
    digest = hashlib.sha256()
    size = 0
    while block := request.files["file"].stream.read(65536):
        digest.update(block)
        size += len(block)
    return jsonify(size=size, sha256=digest.hexdigest())
