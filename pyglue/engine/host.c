/* SPDX-License-Identifier: Apache-2.0 */
/* How Python's threads reach the host: one operation at a time, without the GIL, under the lock of
 * the request, which tells late callers that it has ended. Knows no outcome: that is api.c's. */
#include "eng.h"

#include <stdarg.h>
#include <stdio.h>

/* To the host. */

void eng_raise_ended(const char *what) {
    PyErr_Format(PyExc_RuntimeError, "%s was used after its request had ended", what);
}

static int start_nogil(eng_request_t *request) {
    int rv;

    if (request->is_started)
        return 0;
    rv = request->host->ops->start(request->host, &request->scratch->head);
    request->is_started = rv == 0;
    return rv;
}

static int send_nogil(eng_request_t *request, const struct iovec *v, int n, unsigned flags) {
    const pyglue_host_ops_t *ops = request->host->ops;
    unsigned last = flags & ENG_SEND_LAST ? PYGLUE_WRITE_LAST : 0;
    int rv = start_nogil(request);

    if (rv == 0 && n > 0)
        rv = ops->write(request->host, v, n, last);
    if (rv == 0 && (flags & ENG_SEND_FLUSH))
        rv = ops->flush(request->host);
    return rv < 0 ? rv : 0;
}

static int file_nogil(eng_request_t *request, int fd, int64_t offset, int64_t len) {
    int rv = start_nogil(request);

    if (rv == 0 && len > 0)
        rv = request->host->ops->file(request->host, fd, offset, len);
    return rv < 0 ? rv : 0;
}

/* Takes the host for one operation. 0: the caller has the lock. A forked child has no host, and
 * the lock may be another thread's, which the child does not have. */
static int lock_host_nogil(eng_request_t *request) {
    int rv;

    if (request->engine->is_forked)
        return request->error = PYGLUE_E_GONE;
    pthread_mutex_lock(&request->lock);
    rv = request->host == NULL ? PYGLUE_E_STATE : request->error;
    if (rv != 0)
        pthread_mutex_unlock(&request->lock);
    return rv;
}

static int unlock_host_nogil(eng_request_t *request, int rv) {
    if (rv < 0 && request->error == 0)
        request->error = rv;
    pthread_mutex_unlock(&request->lock);
    return rv;
}

int eng_host_send(eng_request_t *request, const struct iovec *v, int n, unsigned flags) {
    int rv;

    request->is_given = true;
    Py_BEGIN_ALLOW_THREADS
        rv = lock_host_nogil(request);
        if (rv == 0)
            rv = unlock_host_nogil(request, send_nogil(request, v, n, flags));
    Py_END_ALLOW_THREADS
    return rv;
}

int eng_host_send_file(eng_request_t *request, int fd, int64_t offset, int64_t len) {
    int rv;

    request->is_given = true;
    Py_BEGIN_ALLOW_THREADS
        rv = lock_host_nogil(request);
        if (rv == 0)
            rv = unlock_host_nogil(request, file_nogil(request, fd, offset, len));
    Py_END_ALLOW_THREADS
    return rv;
}

/* A host that allows none has no such operation, or an older table. */
static int interim_nogil(eng_request_t *request, const pyglue_head_t *head) {
    const pyglue_host_ops_t *ops = request->host->ops;

    if (ops->size < offsetof(pyglue_host_ops_t, interim) + sizeof ops->interim ||
        ops->interim == NULL)
        return PYGLUE_E_STATE;
    return ops->interim(request->host, head);
}

int eng_host_interim(eng_request_t *request, const pyglue_head_t *head) {
    int rv;

    Py_BEGIN_ALLOW_THREADS
        rv = lock_host_nogil(request);
        if (rv == 0) {
            rv = interim_nogil(request, head);
            unlock_host_nogil(request, rv == PYGLUE_E_HEAD || rv == PYGLUE_E_STATE ? 0 : rv);
        }
    Py_END_ALLOW_THREADS
    return rv;
}

/* A body that ends badly is not the end of the response: input.c remembers it. */
ssize_t eng_host_read(eng_request_t *request, void *buf, size_t len) {
    ssize_t got;

    Py_BEGIN_ALLOW_THREADS
        got = lock_host_nogil(request);
        if (got == 0) {
            got = request->host->ops->read(request->host, buf, len);
            pthread_mutex_unlock(&request->lock);
        }
    Py_END_ALLOW_THREADS
    return got;
}

/* Logs. */

static bool log_to_host_nogil(eng_request_t *request, int level, pyglue_str_t text) {
    bool is_running;

    if (request == NULL || request->engine->is_forked)
        return false;
    pthread_mutex_lock(&request->lock);
    is_running = request->host != NULL;
    if (is_running)
        request->host->ops->log(request->host, level, text);
    pthread_mutex_unlock(&request->lock);
    return is_running;
}

void eng_log(eng_state_t *state, eng_request_t *request, int level, const char *text, size_t len) {
    pyglue_engine_t *engine = state->engine;
    PyObject *exception = PyErr_Occurred() ? eng_compat_take_exception() : NULL;
    eng_thread_t *thread = engine ? pthread_getspecific(engine->thread_key) : NULL;

    if (request == NULL && thread != NULL)
        request = thread->request;
    Py_XINCREF((PyObject *)request);
    Py_BEGIN_ALLOW_THREADS
        if (!log_to_host_nogil(request, level, (pyglue_str_t){text, len}) && engine != NULL)
            engine->log(engine->baton, level, (pyglue_str_t){text, len});
    Py_END_ALLOW_THREADS
    Py_XDECREF((PyObject *)request);
    eng_compat_set_exception(exception);
}

void eng_log_format(eng_state_t *state, eng_request_t *request, int level, const char *format,
                    ...) {
    char text[2048]; /* a longer path is cut */
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (len > 0)
        eng_log(state, request, level, text,
                (size_t)len < sizeof text ? (size_t)len : sizeof text - 1);
}
