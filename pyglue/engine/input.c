/* SPDX-License-Identifier: Apache-2.0 */
/* wsgi.input: the request body, pulled from the host when the application asks.
 *
 * The host is not asked for more than the Content-Length, and not at all once that was read. A
 * body that ends badly is an OSError now and at every later read: never a short read. */
#include "eng.h"

#include <stdlib.h>

enum { BUFFER = 16 * 1024, GROWTH = 1024 * 1024 };

typedef struct input {
    PyObject_HEAD eng_request_t *request;
    int64_t left; /* not yet asked of the host; -1: unknown (chunked) */
    char *buffer; /* BUFFER bytes, made by the first readline */
    size_t at, end;
    int error; /* sticky */
    bool is_ended;
    bool is_busy; /* a thread is reading with the GIL released */
} input_t;

static input_t *input_of(PyObject *self) {
    return (input_t *)(void *)self;
}

PyObject *eng_input_new(eng_state_t *state, eng_request_t *request) {
    input_t *input = PyObject_New(input_t, state->input_type);
    bool has_body = request->snapshot->flags & PYGLUE_REQ_HAS_BODY;

    if (input == NULL)
        return NULL;
    input->request = (eng_request_t *)(void *)Py_NewRef((PyObject *)request);
    input->left = request->snapshot->content_length;
    input->buffer = NULL;
    input->at = input->end = 0;
    input->error = 0;
    input->is_ended = !has_body || input->left == 0;
    input->is_busy = false;
    return (PyObject *)input;
}

static void dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);

    Py_DECREF((PyObject *)input_of(self)->request);
    free(input_of(self)->buffer);
    type->tp_free(self);
    Py_DECREF(type);
}

/* From the host. */

static void raise_error(int error) {
    if (error == PYGLUE_E_STATE)
        eng_raise_ended("wsgi.input");
    else
        PyErr_Format(PyExc_OSError, "request data read error: %s", pyglue_error_text(error));
}

/* Up to len bytes; 0: the end; -1 with an exception set. */
static ssize_t pull(input_t *input, char *buf, size_t len) {
    ssize_t got;

    if (input->is_ended || len == 0)
        return 0;
    if (input->left >= 0 && (int64_t)len > input->left)
        len = (size_t)input->left;
    input->is_busy = true;
    got = eng_host_read(input->request, buf, len);
    input->is_busy = false;
    if (got == 0 && input->left > 0)
        got = PYGLUE_E_BODY;
    if (got < 0) {
        input->error = (int)got;
        raise_error((int)got);
        return -1;
    }
    if (input->left >= 0)
        input->left -= got;
    input->is_ended = got == 0 || input->left == 0;
    return got;
}

/* May this thread read now? 0 or -1. */
static int check(input_t *input) {
    if (input->request->host == NULL)
        eng_raise_ended("wsgi.input");
    else if (input->error != 0)
        raise_error(input->error);
    else if (input->is_busy)
        PyErr_SetString(PyExc_RuntimeError, "wsgi.input is being read by another thread");
    else
        return 0;
    return -1;
}

static size_t take_buffered(input_t *input, char *to, size_t len) {
    size_t have = input->end - input->at;

    if (len > have)
        len = have;
    if (len > 0)
        memcpy(to, input->buffer + input->at, len);
    input->at += len;
    return len;
}

/* One thread reads at a time: while the GIL is let go `is_busy` says so, and where there is none
 * the input's critical section is let go with the thread state. */
static PyObject *exclusively(input_t *input, PyObject *(*read)(input_t *, size_t), size_t limit) {
    PyObject *result;

    Py_BEGIN_CRITICAL_SECTION(input);
    result = check(input) ? NULL : read(input, limit);
    Py_END_CRITICAL_SECTION();
    return result;
}

/* read */

/* How many bytes to make room for: never by what a client merely announces. */
static size_t first_room(const input_t *input, size_t limit) {
    size_t known = input->end - input->at;

    if (!input->is_ended && input->left >= 0 && (uint64_t)input->left < limit)
        known += (size_t)input->left;
    else if (!input->is_ended)
        known += GROWTH;
    if (known > limit)
        known = limit;
    return known < GROWTH ? known : GROWTH;
}

/* Fills *bytes, which holds `have` of up to limit bytes, and makes it as long as what came. */
static int read_on(input_t *input, PyObject **bytes, size_t have, size_t limit) {
    ssize_t got = 1;

    while (have < limit && got > 0) {
        size_t room = (size_t)PyBytes_GET_SIZE(*bytes);

        if (have == room && !input->is_ended) {
            size_t more = room < limit / 2 ? room * 2 + GROWTH : limit;

            if (_PyBytes_Resize(bytes, (Py_ssize_t)(more < limit ? more : limit)))
                return -1;
            continue;
        }
        got = pull(input, PyBytes_AS_STRING(*bytes) + have, room - have);
        if (got < 0)
            return -1;
        have += (size_t)got;
    }
    return (size_t)PyBytes_GET_SIZE(*bytes) == have ? 0 : _PyBytes_Resize(bytes, (Py_ssize_t)have);
}

static PyObject *read_bytes(input_t *input, size_t limit) {
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)first_room(input, limit));
    size_t have;

    if (bytes == NULL)
        return NULL;
    have = take_buffered(input, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
    if (read_on(input, &bytes, have, limit))
        Py_CLEAR(bytes);
    return bytes;
}

/* A size argument: None or negative means all. 0 or -1. */
static int parse_size(PyObject *const *args, Py_ssize_t count, const char *name, size_t *limit) {
    Py_ssize_t size = -1;

    if (count > 1) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most one argument (%zd given)", name, count);
        return -1;
    }
    if (count == 1 && args[0] != Py_None) {
        size = PyNumber_AsSsize_t(args[0], PyExc_OverflowError);
        if (size == -1 && PyErr_Occurred())
            return -1;
    }
    *limit = size < 0 ? PY_SSIZE_T_MAX : (size_t)size;
    return 0;
}

static PyObject *input_read(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    size_t limit;

    if (parse_size(args, count, "read", &limit))
        return NULL;
    return exclusively(input_of(self), read_bytes, limit);
}

/* readline */

/* At least one byte in the buffer; 0: the end; -1. */
static int fill(input_t *input) {
    ssize_t got;

    if (input->at < input->end)
        return 1;
    if (input->buffer == NULL && (input->buffer = malloc(BUFFER)) == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    input->at = input->end = 0;
    got = pull(input, input->buffer, BUFFER);
    if (got > 0)
        input->end = (size_t)got;
    return got < 0 ? -1 : got > 0;
}

/* Bytes of the buffer up to and with a line feed, or all; at most limit. */
static size_t line_len(const input_t *input, size_t limit, bool *is_whole) {
    size_t have = input->end - input->at;
    const char *feed;

    if (have > limit)
        have = limit;
    feed = memchr(input->buffer + input->at, '\n', have);
    *is_whole = feed != NULL;
    return feed != NULL ? (size_t)(feed - (input->buffer + input->at)) + 1 : have;
}

/* Steals line. Made without its bytes first: bytes of length one that are made with them are
 * shared by all of Python and cannot grow. */
static PyObject *append(PyObject *line, const char *bytes, size_t len) {
    size_t had = line != NULL ? (size_t)PyBytes_GET_SIZE(line) : 0;

    if (line == NULL)
        line = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)len);
    else
        (void)_PyBytes_Resize(&line, (Py_ssize_t)(had + len)); /* NULL if it failed */
    if (line != NULL)
        memcpy(PyBytes_AS_STRING(line) + had, bytes, len);
    return line;
}

static PyObject *read_line(input_t *input, size_t limit) {
    PyObject *line = NULL;
    bool is_whole = false;
    int more = 0;

    while (!is_whole && limit > 0 && (more = fill(input)) > 0) {
        size_t len = line_len(input, limit, &is_whole);

        line = append(line, input->buffer + input->at, len);
        if (line == NULL)
            return NULL;
        input->at += len;
        limit -= len;
    }
    if (more < 0)
        Py_CLEAR(line);
    return line != NULL || more < 0 ? line : PyBytes_FromStringAndSize(NULL, 0);
}

static PyObject *input_readline(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    size_t limit;

    if (parse_size(args, count, "readline", &limit))
        return NULL;
    return exclusively(input_of(self), read_line, limit);
}

static PyObject *input_next(PyObject *self) {
    PyObject *line = exclusively(input_of(self), read_line, PY_SSIZE_T_MAX);

    if (line != NULL && PyBytes_GET_SIZE(line) == 0)
        Py_CLEAR(line); /* NULL without an exception: the end */
    return line;
}

/* hint: no more lines once so many bytes were read; None, 0 or less: all. */
static PyObject *input_readlines(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    PyObject *lines, *line;
    size_t hint, total = 0;

    if (parse_size(args, count, "readlines", &hint))
        return NULL;
    if (hint == 0)
        hint = PY_SSIZE_T_MAX;
    lines = PyList_New(0);
    while (lines != NULL && total < hint && (line = input_next(self)) != NULL) {
        total += (size_t)PyBytes_GET_SIZE(line);
        if (PyList_Append(lines, line))
            Py_CLEAR(lines);
        Py_DECREF(line);
    }
    if (PyErr_Occurred())
        Py_CLEAR(lines);
    return lines;
}

static PyObject *input_close(PyObject *self, PyObject *unused) {
    (void)self; /* the server's to close; servers' inputs have the method */
    (void)unused;
    Py_RETURN_NONE;
}

/* The type. */

static PyMethodDef methods[] = {
    {"read", (PyCFunction)(void (*)(void))input_read, METH_FASTCALL, "read(size=-1) -> bytes"},
    {"readline", (PyCFunction)(void (*)(void))input_readline, METH_FASTCALL,
     "readline(size=-1) -> bytes"},
    {"readlines", (PyCFunction)(void (*)(void))input_readlines, METH_FASTCALL,
     "readlines(hint=-1) -> list"},
    {"close", input_close, METH_NOARGS, "Does nothing: the server closes it."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "wsgi.input: the body of one request."},
    {Py_tp_methods, methods},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, input_next},
    {Py_tp_dealloc, dealloc},
    {0, NULL},
};

PyType_Spec eng_input_spec = {
    .name = "pyglue._engine.Input",
    .basicsize = sizeof(input_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};
