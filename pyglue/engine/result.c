/* SPDX-License-Identifier: Apache-2.0 */
/* What the application returned: iterated, held to its announced length, closed once.
 *
 * A list or tuple of bytes is a body at hand: a small one is copied into the scratch and leaves
 * when Python has been left. So does a block that completes the announced length. Any other
 * block goes to the client before the next is asked for (PEP 3333, Buffering and Streaming). */
#include "eng.h"

#include <stdlib.h>

enum { BATCH = 64 };

static void log_excess(eng_request_t *request) {
    if (request->is_excess_logged)
        return;
    request->is_excess_logged = true;
    eng_log_format(eng_state_by_type(Py_TYPE(request)), request, PYGLUE_LEVEL_WARN,
                   ENG_ID(3008) "script '%s' returned more than its Content-Length of %lld bytes: "
                                "the rest was left out",
                   pyglue_snapshot_text(request->snapshot, request->snapshot->script).ptr,
                   (long long)request->length);
}

/* 0, or -1 with TypeError. */
static int check_item(PyObject *item) {
    if (PyBytes_Check(item))
        return 0;
    PyErr_Format(PyExc_TypeError, "the body must be bytes, not %.100s", Py_TYPE(item)->tp_name);
    return -1;
}

int eng_result_take(eng_request_t *request, PyObject *item, struct iovec *block) {
    int64_t left = request->length - request->taken;

    if (check_item(item))
        return -1;
    *block = (struct iovec){PyBytes_AS_STRING(item), (size_t)PyBytes_GET_SIZE(item)};
    if (block->iov_len == 0)
        return 0;
    if (!request->has_head) {
        PyErr_SetString(PyExc_RuntimeError, "the body began before start_response was called");
        return -1;
    }
    if (request->length >= 0 && (int64_t)block->iov_len > left) {
        block->iov_len = (size_t)left;
        if (!request->is_bodiless)
            log_excess(request);
    }
    request->taken += (int64_t)block->iov_len;
    return 0;
}

static bool is_taken_whole(const eng_request_t *request) {
    return request->length >= 0 && request->taken >= request->length;
}

/* The scratch. */

/* Adds to what leaves later. 0 or -1. */
static int gather(eng_request_t *request, const struct iovec *block) {
    eng_scratch_t *scratch = request->scratch;

    request->is_gathered = true;
    if (request->is_bodiless || block->iov_len == 0)
        return 0;
    if (scratch->body == NULL && (scratch->body = malloc(ENG_SMALL)) == NULL) {
        request->is_gathered = false;
        PyErr_NoMemory();
        return -1;
    }
    memcpy(scratch->body + scratch->body_len, block->iov_base, block->iov_len);
    scratch->body_len += block->iov_len;
    return 0;
}

static int finish_head_exclusive(eng_request_t *request) {
    static const struct iovec nothing;

    if (!request->has_head) {
        PyErr_SetString(PyExc_RuntimeError,
                        "the application returned without having called start_response");
        return -1;
    }
    return request->is_given || request->error != 0 || request->is_gathered
               ? 0
               : gather(request, &nothing);
}

/* The head alone, where no body came. 0 or -1. */
static int finish_head(eng_request_t *request) {
    int rv;

    Py_BEGIN_CRITICAL_SECTION(request);
    rv = finish_head_exclusive(request);
    Py_END_CRITICAL_SECTION();
    return rv;
}

/* A body at hand. */

static int check_items(PyObject *items, size_t *total) {
    *total = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(items); i++) {
        PyObject *item = PyTuple_GET_ITEM(items, i);

        if (check_item(item))
            return -1;
        *total += (size_t)PyBytes_GET_SIZE(item);
    }
    return 0;
}

static int gather_items(eng_request_t *request, PyObject *items) {
    struct iovec block;

    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(items); i++)
        if (eng_result_take(request, PyTuple_GET_ITEM(items, i), &block) || gather(request, &block))
            return -1;
    return 0;
}

/* Large: references are kept by the tuple while the GIL is away. */
static int send_items(eng_request_t *request, PyObject *items) {
    Py_ssize_t count = PyTuple_GET_SIZE(items), i = 0;
    struct iovec blocks[BATCH];

    while (i < count && request->error == 0) {
        int n = 0;

        for (; i < count && n < BATCH; i++) {
            if (eng_result_take(request, PyTuple_GET_ITEM(items, i), &blocks[n]))
                return -1;
            n += blocks[n].iov_len > 0;
        }
        if (n > 0)
            eng_host_send(request, blocks, request->is_bodiless ? 0 : n,
                          i == count && is_taken_whole(request) ? ENG_SEND_LAST : 0);
    }
    return 0;
}

/* The list as it is now: the application may change it while the GIL is away. */
static int run_sequence(eng_request_t *request, PyObject *result) {
    PyObject *items = PySequence_Tuple(result);
    size_t total;
    int rv = -1;

    if (items == NULL)
        return -1;
    Py_BEGIN_CRITICAL_SECTION(request);
    if (check_items(items, &total) == 0)
        rv = !request->is_given && request->has_head && total <= ENG_SMALL
                 ? gather_items(request, items)
                 : send_items(request, items);
    Py_END_CRITICAL_SECTION();
    Py_DECREF(items);
    return rv;
}

/* An iterable. */

static int send_block_exclusive(eng_request_t *request, PyObject *item) {
    struct iovec block;
    bool is_whole;

    if (eng_result_take(request, item, &block))
        return -1;
    if (block.iov_len == 0)
        return 0;
    is_whole = is_taken_whole(request);
    if (is_whole && !request->is_given && block.iov_len <= ENG_SMALL)
        return gather(request, &block);
    eng_host_send(request, &block, request->is_bodiless ? 0 : 1,
                  is_whole ? ENG_SEND_LAST : ENG_SEND_FLUSH);
    return 0;
}

static int send_block(eng_request_t *request, PyObject *item) {
    int rv;

    Py_BEGIN_CRITICAL_SECTION(request);
    rv = send_block_exclusive(request, item);
    Py_END_CRITICAL_SECTION();
    return rv;
}

static int run_iterable(eng_request_t *request, PyObject *result) {
    PyObject *iterator = PyObject_GetIter(result);
    PyObject *item;
    int rv = 0;

    if (iterator == NULL)
        return -1;
    while (rv == 0 && request->error == 0 && (item = PyIter_Next(iterator)) != NULL) {
        rv = send_block(request, item);
        Py_DECREF(item);
    }
    eng_interrupt_settle(request);
    Py_DECREF(iterator);
    return rv < 0 || PyErr_Occurred() ? -1 : 0;
}

/* The end. */

/* Always, and once; an exception of the iteration outlives one of close(), which is logged. */
static int close_result(eng_state_t *state, eng_request_t *request, PyObject *result, int rv) {
    PyObject *first = rv < 0 ? eng_compat_take_exception() : NULL;
    PyObject *function, *done = NULL;

    eng_interrupt_settle(request);
    function = PyObject_GetAttr(result, state->names[ENG_NAME_CLOSE]);
    if (function == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear(); /* close() is optional */
    } else {
        done = function != NULL ? PyObject_CallNoArgs(function) : NULL;
        if (done == NULL)
            eng_exc_log(state, request, ENG_ID(3005), "close() of the response failed",
                        pyglue_snapshot_text(request->snapshot, request->snapshot->script));
    }
    Py_XDECREF(function);
    Py_XDECREF(done);
    eng_compat_set_exception(first);
    return rv;
}

int eng_result_run(eng_state_t *state, eng_request_t *request, PyObject *result) {
    int rv;

    if (PyList_CheckExact(result) || PyTuple_CheckExact(result)) {
        rv = run_sequence(request, result);
        return rv < 0 ? rv : finish_head(request);
    }
    rv = eng_file_send(state, request, result);
    if (rv == 0)
        rv = run_iterable(request, result);
    if (rv >= 0)
        rv = finish_head(request);
    return close_result(state, request, result, rv);
}
