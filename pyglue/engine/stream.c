/* SPDX-License-Identifier: Apache-2.0 */
/* wsgi.errors, sys.stdout and sys.stderr: text into the error log.
 *
 * Whole lines of one write are one entry; an unfinished line waits for its end, for a flush, for
 * another thread's write, or for the end of the request. */
#include "eng.h"

#include <stdlib.h>

enum { LINE_MAX_BYTES = 8192 };

typedef struct stream {
    PyObject_HEAD eng_request_t
        *request; /* NULL: of the interpreter; its entries go to the thread's request */
    PyObject *name;
    PyObject *dict;
    char *line; /* unfinished */
    size_t len, room;
    unsigned long writer; /* thread of the unfinished line */
} stream_t;

static stream_t *stream_of(PyObject *self) {
    return (stream_t *)(void *)self;
}

PyObject *eng_stream_new(eng_state_t *state, eng_request_t *request, const char *name) {
    stream_t *stream;
    PyObject *text = PyUnicode_InternFromString(name);

    if (text == NULL)
        return NULL;
    stream = PyObject_New(stream_t, state->stream_type);
    if (stream == NULL) {
        Py_DECREF(text);
        return NULL;
    }
    Py_XINCREF((PyObject *)request);
    stream->request = request;
    stream->name = text;
    stream->line = NULL;
    stream->dict = NULL;
    stream->len = stream->room = 0;
    stream->writer = 0;
    return (PyObject *)stream;
}

static void dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);

    Py_XDECREF((PyObject *)stream_of(self)->request);
    Py_DECREF(stream_of(self)->name);
    Py_XDECREF(stream_of(self)->dict);
    free(stream_of(self)->line);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Lines. */

static void emit(stream_t *stream, const char *text, size_t len) {
    if (len > 0 && text[len - 1] == '\n')
        len--;
    eng_log(eng_state_by_type(Py_TYPE(stream)), stream->request, PYGLUE_LEVEL_ERROR, text, len);
}

/* The line is taken away first: logging lets the GIL go. */
static void emit_line(stream_t *stream) {
    char *line = stream->line;
    size_t len = stream->len;

    stream->line = NULL;
    stream->len = stream->room = 0;
    if (len > 0)
        emit(stream, line, len);
    free(line);
}

static int keep(stream_t *stream, const char *text, size_t len) {
    if (stream->len + len > stream->room) {
        size_t room = (stream->len + len) * 2;
        char *line = realloc(stream->line, room);

        if (line == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        stream->line = line;
        stream->room = room;
    }
    if (len > 0)
        memcpy(stream->line + stream->len, text, len);
    stream->len += len;
    return 0;
}

static int write_text(stream_t *stream, const char *text, size_t len) {
    unsigned long writer = PyThread_get_thread_ident();
    const char *feed = memrchr(text, '\n', len);
    size_t whole = feed != NULL ? (size_t)(feed - text) + 1 : 0;

    if (stream->len > 0 && stream->writer != writer)
        emit_line(stream);
    stream->writer = writer;
    if (whole > 0 && stream->len == 0) {
        emit(stream, text, whole);
    } else if (whole > 0) {
        if (keep(stream, text, whole))
            return -1;
        emit_line(stream);
    }
    if (keep(stream, text + whole, len - whole))
        return -1;
    if (stream->len > LINE_MAX_BYTES)
        emit_line(stream);
    return 0;
}

void eng_stream_finish(PyObject *stream) {
    Py_BEGIN_CRITICAL_SECTION(stream);
    emit_line(stream_of(stream));
    Py_END_CRITICAL_SECTION();
}

/* Methods. */

static int check(stream_t *stream) {
    if (stream->request == NULL || stream->request->host != NULL)
        return 0;
    eng_raise_ended("wsgi.errors");
    return -1;
}

static PyObject *stream_write(PyObject *self, PyObject *text) {
    Py_ssize_t characters;
    PyObject *bytes;
    int rv;

    if (!PyUnicode_Check(text))
        return PyErr_Format(PyExc_TypeError, "write() argument must be str, not %.100s",
                            Py_TYPE(text)->tp_name);
    if (check(stream_of(self)))
        return NULL;
    characters = PyUnicode_GET_LENGTH(text);
    bytes = PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
    if (bytes == NULL)
        return NULL;
    Py_BEGIN_CRITICAL_SECTION(self);
    rv = write_text(stream_of(self), PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
    Py_END_CRITICAL_SECTION();
    Py_DECREF(bytes);
    return rv ? NULL : PyLong_FromSsize_t(characters);
}

static PyObject *stream_writelines(PyObject *self, PyObject *lines) {
    PyObject *iterator = PyObject_GetIter(lines);
    PyObject *line, *done;

    if (iterator == NULL)
        return NULL;
    while ((line = PyIter_Next(iterator)) != NULL) {
        done = stream_write(self, line);
        Py_DECREF(line);
        Py_XDECREF(done);
        if (done == NULL)
            break;
    }
    Py_DECREF(iterator);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *stream_flush(PyObject *self, PyObject *unused) {
    (void)unused;
    if (check(stream_of(self)))
        return NULL;
    eng_stream_finish(self);
    Py_RETURN_NONE;
}

static PyObject *answer_false(PyObject *self, PyObject *unused) {
    (void)self;
    (void)unused;
    Py_RETURN_FALSE;
}

static PyObject *answer_true(PyObject *self, PyObject *unused) {
    (void)self;
    (void)unused;
    Py_RETURN_TRUE;
}

/* Closing the log is not an application's to do; libraries that close sys.stdout go on. */
static PyObject *stream_close(PyObject *self, PyObject *unused) {
    (void)self;
    (void)unused;
    Py_RETURN_NONE;
}

static PyObject *stream_fileno(PyObject *self, PyObject *unused) {
    (void)self;
    (void)unused;
    PyErr_SetString(PyExc_OSError, "the error log of the server has no descriptor here");
    return NULL;
}

static PyMethodDef methods[] = {
    {"write", stream_write, METH_O, "write(text) -> number of characters"},
    {"writelines", stream_writelines, METH_O, "write() for each"},
    {"flush", stream_flush, METH_NOARGS, "An unfinished line becomes an entry."},
    {"close", stream_close, METH_NOARGS, "Does nothing: the log stays open."},
    {"isatty", answer_false, METH_NOARGS, "False"},
    {"readable", answer_false, METH_NOARGS, "False"},
    {"seekable", answer_false, METH_NOARGS, "False"},
    {"writable", answer_true, METH_NOARGS, "True"},
    {"fileno", stream_fileno, METH_NOARGS, "Raises OSError: there is none."},
    {NULL, NULL, 0, NULL},
};

static PyObject *get_text(PyObject *self, void *text) {
    (void)self;
    return PyUnicode_FromString(text);
}

static PyObject *get_closed(PyObject *self, void *unused) {
    (void)unused;
    return answer_false(self, NULL);
}

static PyGetSetDef properties[] = {
    {"encoding", get_text, NULL, NULL, (void *)"utf-8"},
    {"errors", get_text, NULL, NULL, (void *)"backslashreplace"},
    {"mode", get_text, NULL, NULL, (void *)"w"},
    {"closed", get_closed, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef members[] = {
    {"name", T_OBJECT, offsetof(stream_t, name), READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(stream_t, dict), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "A text stream into the error log."},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {Py_tp_members, members},
    {Py_tp_dealloc, dealloc},
    {0, NULL},
};

PyType_Spec eng_stream_spec = {
    .name = "pyglue._engine.Stream",
    .basicsize = sizeof(stream_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};
