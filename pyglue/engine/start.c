/* SPDX-License-Identifier: Apache-2.0 */
/* The callables start_response, write() and early_hints(): when each may be called, and what
 * becomes of the head that it was given, which head.c reads. The request is the callable. */
#include "eng.h"

#include <stdlib.h>

#include "frame.h" /* what an interim head may contain */

static eng_request_t *request_of(PyObject *self) {
    return (eng_request_t *)(void *)self;
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
    if (eng_head_read_status(status, &head) ||
        eng_head_read_fields(headers, request->scratch, &head, &dropped) ||
        eng_head_keep(request->scratch, &head))
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
    if (eng_head_read_fields(list, scratch, &head, &dropped))
        return -1;
    if (dropped.len > 0 || head.content_length >= 0)
        return refuse_hints("a header of the connection, or a Content-Length");
    error = pyglue_interim_check(&head);
    if (error == 0)
        return eng_head_keep(scratch, &head);
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
