/* SPDX-License-Identifier: Apache-2.0 */
/* A response head as the application gave it: checked whole before any of it is kept, then copied,
 * so that nothing the application does later can change it. Up: start.c, file.c. */
#include "eng.h"

#include <stdlib.h>
#include <strings.h>

#include "frame.h" /* what a head may contain */

static bool is_name(pyglue_str_t name, const char *other) {
    return name.len == strlen(other) && strncasecmp(name.ptr, other, name.len) == 0;
}

/* The bytes of a native string, borrowed from it. 0, or -1 with TypeError or ValueError. */
static int native(PyObject *object, const char *what, pyglue_str_t *text) {
    if (!PyUnicode_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s must be a str, not %.100s", what,
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    if (PyUnicode_READY(object))
        return -1;
    if (PyUnicode_KIND(object) != PyUnicode_1BYTE_KIND) {
        PyErr_Format(PyExc_ValueError, "%s has a character above latin-1: %R", what, object);
        return -1;
    }
    *text = (pyglue_str_t){PyUnicode_DATA(object), (size_t)PyUnicode_GET_LENGTH(object)};
    return 0;
}

/* Reading. */

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

int eng_head_read_status(PyObject *object, pyglue_head_t *head) {
    pyglue_str_t text;
    const char *at;

    if (native(object, "status", &text))
        return -1;
    at = text.ptr;
    if (text.len < 3 || !is_digit(at[0]) || !is_digit(at[1]) || !is_digit(at[2]) ||
        (text.len > 3 && at[3] != ' ') || !pyglue_head_is_text(text)) {
        PyErr_Format(PyExc_ValueError,
                     "status must be three digits, a blank and a reason without control "
                     "characters: %R",
                     object);
        return -1;
    }
    head->status = (at[0] - '0') * 100 + (at[1] - '0') * 10 + (at[2] - '0');
    head->reason = text.len > 4 ? (pyglue_str_t){at + 4, text.len - 4} : pyglue_str("");
    if (head->status >= 200)
        return 0;
    PyErr_Format(PyExc_ValueError, "status must be 200 or above, 1xx is the server's: %R", object);
    return -1;
}

/* Digits alone; at most 18 of them, which fit. */
static int64_t read_length(pyglue_str_t text) {
    int64_t length = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (!is_digit(text.ptr[i]) || i == 18)
            return -1;
        length = length * 10 + (text.ptr[i] - '0');
    }
    return text.len > 0 ? length : -1;
}

static int note_length(pyglue_head_t *head, const pyglue_header_t *field, PyObject *value) {
    int64_t length = read_length(field->value);

    if (length < 0)
        PyErr_Format(PyExc_ValueError, "Content-Length must be a number of bytes: %R", value);
    else if (head->content_length >= 0 && head->content_length != length)
        PyErr_Format(PyExc_ValueError, "two headers Content-Length that differ: %lld and %lld",
                     (long long)head->content_length, (long long)length);
    else
        head->content_length = length;
    return PyErr_Occurred() ? -1 : 0;
}

static int read_field(PyObject *item, pyglue_header_t *field) {
    if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != 2) {
        PyErr_Format(PyExc_TypeError, "each header must be a tuple (name, value): %R", item);
        return -1;
    }
    if (native(PyTuple_GET_ITEM(item, 0), "header name", &field->name) ||
        native(PyTuple_GET_ITEM(item, 1), "header value", &field->value))
        return -1;
    if (!pyglue_head_is_token(field->name)) {
        PyErr_Format(PyExc_ValueError, "not a header name: %R", PyTuple_GET_ITEM(item, 0));
        return -1;
    }
    if (!pyglue_head_is_text(field->value)) {
        PyErr_Format(PyExc_ValueError, "header %U has a control character in its value: %R",
                     PyTuple_GET_ITEM(item, 0), PyTuple_GET_ITEM(item, 1));
        return -1;
    }
    return 0;
}

static int ensure_fields(eng_scratch_t *scratch, size_t count) {
    pyglue_header_t *headers;

    if (count <= scratch->header_room)
        return 0;
    headers = realloc(scratch->headers, count * sizeof *headers);
    if (headers == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    scratch->headers = headers;
    scratch->header_room = count;
    return 0;
}

/* No Python code runs in here unless it fails, so the list stays as it is. */
int eng_head_read_fields(PyObject *list, eng_scratch_t *scratch, pyglue_head_t *head,
                         pyglue_str_t *dropped) {
    size_t count = 0;

    /* One place more: a length may be added. */
    if (ensure_fields(scratch, (size_t)PyList_GET_SIZE(list) + 1))
        return -1;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        PyObject *item = PyList_GET_ITEM(list, i);
        pyglue_header_t *field = &scratch->headers[count];

        if (read_field(item, field))
            return -1;
        if (pyglue_head_is_hop_by_hop(field->name)) {
            *dropped = field->name;
            continue;
        }
        if (is_name(field->name, "Content-Length") &&
            note_length(head, field, PyTuple_GET_ITEM(item, 1)))
            return -1;
        count++;
    }
    head->headers = scratch->headers;
    head->header_count = count;
    return 0;
}

/* Keeping. */

static void keep_text(char **at, pyglue_str_t *text) {
    if (text->len > 0)
        memcpy(*at, text->ptr, text->len);
    text->ptr = *at;
    *at += text->len;
}

int eng_head_keep(eng_scratch_t *scratch, pyglue_head_t *head) {
    size_t size = head->reason.len + 1;
    char *at;

    for (size_t i = 0; i < head->header_count; i++)
        size += scratch->headers[i].name.len + scratch->headers[i].value.len;
    if (size > scratch->text_room) {
        char *text = realloc(scratch->text, size);

        if (text == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        scratch->text = text;
        scratch->text_room = size;
    }
    at = scratch->text;
    keep_text(&at, &head->reason);
    for (size_t i = 0; i < head->header_count; i++) {
        keep_text(&at, &scratch->headers[i].name);
        keep_text(&at, &scratch->headers[i].value);
    }
    scratch->head = *head;
    return 0;
}

int eng_head_add_length(eng_request_t *request, int64_t length) {
    eng_scratch_t *scratch = request->scratch;
    pyglue_head_t head = scratch->head;
    pyglue_header_t *field = &scratch->headers[head.header_count++];
    char text[24];
    char *old = scratch->text;
    int len = snprintf(text, sizeof text, "%lld", (long long)length);

    /* Texts are kept in place: its sources are where they will be, but for the new ones. */
    *field = (pyglue_header_t){pyglue_str("Content-Length"), {text, (size_t)len}};
    head.content_length = length;
    scratch->text = NULL;
    scratch->text_room = 0;
    if (eng_head_keep(scratch, &head)) {
        scratch->text = old;
        return -1;
    }
    free(old);
    request->length = length;
    return 0;
}
