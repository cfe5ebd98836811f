/* SPDX-License-Identifier: Apache-2.0 */
/* start_response, write(), early_hints(), and the response head: checked whole before any of it is
 * kept, then copied, so that nothing the application does later can change it. The request is the
 * callable. */
#include "eng.h"

#include <stdlib.h>
#include <strings.h>

#include "frame.h" /* what a head may contain */

static eng_request_t *request_of(PyObject *self) {
    return (eng_request_t *)(void *)self;
}

/* What a head may contain. */

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

/* `NNN` or `NNN reason` */
static int read_status(PyObject *object, pyglue_head_t *head) {
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

/* Reads the whole list; *dropped is how many hop-by-hop fields were left out. No Python code
 * runs in here unless it fails, so the list stays as it is. */
static int read_fields(PyObject *list, eng_scratch_t *scratch, pyglue_head_t *head,
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

/* Replaces the borrowed texts of the head by copies. The old head's copies are overwritten. */
static int keep(eng_scratch_t *scratch, pyglue_head_t *head) {
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

static bool has_no_body(const eng_request_t *request, int status) {
    return (request->snapshot->flags & PYGLUE_REQ_HEAD) || status == 204 || status == 304;
}

/* A head that is refused leaves none: an earlier one that it was to replace is gone too. */
static int set_head(eng_request_t *request, PyObject *status, PyObject *headers) {
    pyglue_head_t head = {.content_length = -1};
    pyglue_str_t dropped = {NULL, 0};
    char name[64];

    request->has_head = false;
    if (!PyList_Check(headers)) {
        PyErr_Format(PyExc_TypeError, "headers must be a list, not %.100s",
                     Py_TYPE(headers)->tp_name);
        return -1;
    }
    if (read_status(status, &head) || read_fields(headers, request->scratch, &head, &dropped) ||
        keep(request->scratch, &head))
        return -1;
    request->has_head = true;
    request->length = head.content_length;
    request->is_bodiless = has_no_body(request, head.status);
    if (dropped.len > 0) {
        snprintf(name, sizeof name, "%.*s", (int)dropped.len, dropped.ptr);
        eng_log_format(
            eng_state_by_type(Py_TYPE(request)), request, PYGLUE_LEVEL_WARN,
            ENG_ID(3009) "header %s of the application was dropped: connections are the server's",
            name);
    }
    return 0;
}

int eng_start_add_length(eng_request_t *request, int64_t length) {
    eng_scratch_t *scratch = request->scratch;
    pyglue_head_t head = scratch->head;
    pyglue_header_t *field = &scratch->headers[head.header_count++];
    char text[24];
    char *old = scratch->text;
    int len = snprintf(text, sizeof text, "%lld", (long long)length);

    /* keep() copies in place: its sources are where they will be, but for the new ones. */
    *field = (pyglue_header_t){pyglue_str("Content-Length"), {text, (size_t)len}};
    head.content_length = length;
    scratch->text = NULL;
    scratch->text_room = 0;
    if (keep(scratch, &head)) {
        scratch->text = old;
        return -1;
    }
    free(old);
    request->length = length;
    return 0;
}

/* The callable. */

static PyObject *request_write(PyObject *self, PyObject *data);

static PyMethodDef write_method = {"write", request_write, METH_O, "write(bytes): PEP 3333."};

/* An exception that came as a tuple; the application may have made that by itself. */
static void raise_again(PyObject *exc_info) {
    PyObject *exception = PyTuple_GET_ITEM(exc_info, 1);
    PyObject *traceback = PyTuple_GET_ITEM(exc_info, 2);

    if (!PyExceptionInstance_Check(exception)) {
        PyErr_SetString(PyExc_TypeError,
                        "the head has left, and exc_info has no exception to be raised");
        return;
    }
    if (!PyTraceBack_Check(traceback) || PyException_SetTraceback(exception, traceback) == 0)
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
}

/* PEP 3333: once the head has left, exc_info is raised again. 0: go on. */
static int check_again(const eng_request_t *request, PyObject *exc_info) {
    bool has_exc_info = exc_info != NULL && exc_info != Py_None;

    if (has_exc_info && (!PyTuple_Check(exc_info) || PyTuple_GET_SIZE(exc_info) != 3)) {
        PyErr_SetString(PyExc_TypeError, "exc_info must be a tuple as of sys.exc_info()");
        return -1;
    }
    if (has_exc_info && (request->is_given || request->is_gathered)) {
        raise_again(exc_info);
        return -1;
    }
    if (!has_exc_info && request->has_head) {
        PyErr_SetString(PyExc_RuntimeError, "start_response was called again without exc_info");
        return -1;
    }
    return 0;
}

/* With what it was called: status, headers, exc_info. 0 or -1. */
static int get_arguments(PyObject *given[3], PyObject *const *args, size_t nargsf,
                         PyObject *keywords) {
    static const char *const parameters[] = {"status", "headers", "exc_info"};
    Py_ssize_t count = PyVectorcall_NARGS(nargsf);

    for (Py_ssize_t i = 0; i < count && i < 3; i++)
        given[i] = args[i];
    for (Py_ssize_t i = 0; keywords != NULL && i < PyTuple_GET_SIZE(keywords); i++) {
        int at = 0;

        while (at < 3 &&
               PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(keywords, i), parameters[at]) != 0)
            at++;
        if (at == 3 || given[at] != NULL) {
            PyErr_Format(PyExc_TypeError, "start_response() got an unexpected argument %R",
                         PyTuple_GET_ITEM(keywords, i));
            return -1;
        }
        given[at] = args[count + i];
    }
    if (count <= 3 && given[0] != NULL && given[1] != NULL)
        return 0;
    PyErr_Format(PyExc_TypeError,
                 "start_response(status, headers, exc_info=None) got %zd arguments", count);
    return -1;
}

static int start_exclusive(eng_request_t *request, PyObject *const given[3]) {
    if (request->host == NULL) {
        eng_raise_ended("start_response");
        return -1;
    }
    return check_again(request, given[2]) || set_head(request, given[0], given[1]) ? -1 : 0;
}

/* No other thread changes the list while it is read. */
static PyObject *call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *keywords) {
    PyObject *given[3] = {NULL, NULL, NULL};
    int rv;

    if (get_arguments(given, args, nargsf, keywords))
        return NULL;
    Py_BEGIN_CRITICAL_SECTION2(self, given[1]);
    rv = start_exclusive(request_of(self), given);
    Py_END_CRITICAL_SECTION2();
    return rv == 0 ? PyCFunction_New(&write_method, self) : NULL;
}

static PyObject *write_exclusive(eng_request_t *request, PyObject *data) {
    struct iovec block;
    int rv;

    if (request->host == NULL) {
        eng_raise_ended("write");
        return NULL;
    }
    if (eng_result_take(request, data, &block))
        return NULL;
    if (block.iov_len == 0)
        Py_RETURN_NONE;
    rv = eng_host_send(request, &block, request->is_bodiless ? 0 : 1, ENG_SEND_FLUSH);
    if (rv == PYGLUE_E_STATE)
        eng_raise_ended("write");
    else if (rv < 0)
        PyErr_Format(PyExc_OSError, "the response could not be sent: %s", pyglue_error_text(rv));
    if (rv < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *request_write(PyObject *self, PyObject *data) {
    PyObject *result;

    Py_BEGIN_CRITICAL_SECTION(self);
    result = write_exclusive(request_of(self), data);
    Py_END_CRITICAL_SECTION();
    return result;
}

/* early_hints(): its head is read as that of a response, into memory of its own. */

static int refuse_hints(const char *why) {
    PyErr_Format(PyExc_ValueError, "early hints are refused: %s", why);
    return -1;
}

static int read_hints(PyObject *list, eng_scratch_t *scratch) {
    pyglue_head_t head = {.status = 103, .reason = pyglue_str("Early Hints"), .content_length = -1};
    pyglue_str_t dropped = {NULL, 0};
    int error;

    if (!PyList_Check(list)) {
        PyErr_Format(PyExc_TypeError, "early hints must be a list, not %.100s",
                     Py_TYPE(list)->tp_name);
        return -1;
    }
    if (read_fields(list, scratch, &head, &dropped))
        return -1;
    if (dropped.len > 0 || head.content_length >= 0)
        return refuse_hints("a header of the connection, or a Content-Length");
    error = pyglue_interim_check(&head);
    if (error == 0)
        return keep(scratch, &head);
    return refuse_hints(error == PYGLUE_E_TOO_BIG ? "more than 64 headers, or 8192 bytes"
                                                  : pyglue_error_text(error));
}

/* Its place is taken first: another thread may come while this one sends. */
static int send_hints(eng_request_t *request, const pyglue_head_t *head) {
    int rv;

    request->interims--;
    rv = eng_host_interim(request, head);
    if (rv == PYGLUE_E_STATE)
        PyErr_SetString(PyExc_RuntimeError, "early hints came after the head, or too often");
    else if (rv == PYGLUE_E_HEAD)
        refuse_hints(pyglue_error_text(rv));
    else if (rv < 0)
        PyErr_Format(PyExc_OSError, "early hints could not be sent: %s", pyglue_error_text(rv));
    return rv;
}

static int hints_exclusive(eng_request_t *request, PyObject *list, eng_scratch_t *scratch) {
    if (request->host == NULL) {
        eng_raise_ended("early_hints");
        return -1;
    }
    if (request->is_given || request->is_gathered) {
        PyErr_SetString(PyExc_RuntimeError, "early hints came after the head had left");
        return -1;
    }
    if (request->interims == 0) {
        PyErr_SetString(PyExc_RuntimeError,
                        "early hints were sent as often as interim-responses= allows");
        return -1;
    }
    return read_hints(list, scratch) ? -1 : send_hints(request, &scratch->head);
}

static PyObject *request_hints(PyObject *self, PyObject *list) {
    eng_scratch_t scratch = {0};
    int rv;

    Py_BEGIN_CRITICAL_SECTION2(self, list);
    rv = hints_exclusive(request_of(self), list, &scratch);
    Py_END_CRITICAL_SECTION2();
    free(scratch.headers);
    free(scratch.text);
    if (rv < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef hints_method = {"early_hints", request_hints, METH_O,
                                   "early_hints([(name, value), ...]): 103 Early Hints, RFC 8297."};

PyObject *eng_start_hints_new(eng_request_t *request) {
    return PyCFunction_New(&hints_method, (PyObject *)request);
}

/* The type. */

eng_request_t *eng_start_new(eng_state_t *state, const pyglue_snapshot_t *snapshot,
                             pyglue_host_t *host, eng_scratch_t *scratch) {
    eng_request_t *request = PyObject_New(eng_request_t, state->request_type);

    if (request == NULL)
        return NULL;
    request->vectorcall = call;
    request->engine = state->engine;
    request->snapshot = snapshot;
    request->host = host;
    request->scratch = scratch;
    request->length = -1;
    request->taken = 0;
    request->error = 0;
    request->has_head = request->is_given = request->is_started = request->is_gathered = false;
    request->is_bodiless = request->is_excess_logged = false;
    request->interims = (uint8_t)pyglue_snapshot_interims(snapshot);
    pthread_mutex_init(&request->lock, NULL);
    return request;
}

static void dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);

    pthread_mutex_destroy(&request_of(self)->lock);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(eng_request_t, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "start_response(status, headers, exc_info=None) -> write: PEP 3333."},
    {Py_tp_members, members},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_dealloc, dealloc},
    {0, NULL},
};

PyType_Spec eng_start_spec = {
    .name = "pyglue._engine.start_response",
    .basicsize = sizeof(eng_request_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};
