/* SPDX-License-Identifier: Apache-2.0 */
/* The third host: the host operations in memory, for tests.
 *
 * It feeds a request body in given pieces, records every operation with its bytes, fails the n-th
 * one on request, and finds the engine as httpd's children do, by dlopen and dlsym. It is itself a
 * Python module, whose one function `call` gives up the GIL and plays the server. On request an
 * allocation of Python's fails that is made within a call. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine.h"

/* One operation as it happened. */
typedef struct record {
    const char *name;
    long a, b;
    char *bytes;
    size_t len;
} record_t;

typedef struct memhost {
    pyglue_host_t host; /* first */
    const char *body;
    size_t body_len, body_at, piece; /* a read gives at most `piece` bytes */
    int body_error;                  /* instead of the end of the body; 0: none */
    const char *fail_name;           /* this operation ... */
    int fail_after;                  /* ... fails when it was done so many times */
    int fail_error;
    bool held_gil; /* an operation came with a thread state: the engine's mistake */
    record_t *records;
    size_t count;
} memhost_t;

static memhost_t *host_of(pyglue_host_t *h) {
    return (memhost_t *)(void *)h;
}

static void add(memhost_t *host, const char *name, long a, long b, const char *bytes, size_t len) {
    record_t *records = realloc(host->records, (host->count + 1) * sizeof *records);

    if (records == NULL)
        abort();
    host->records = records;
    records[host->count] = (record_t){name, a, b, malloc(len + 1), len};
    if (len > 0)
        memcpy(records[host->count].bytes, bytes, len);
    host->count++;
}

/* The error that this operation is to fail with, or 0. */
static int failure(memhost_t *host, const char *name) {
    /* Of tests with one thread only: it is the thread's where each has its own. */
    host->held_gil |= _PyThreadState_UncheckedGet() != NULL;
    if (host->fail_name == NULL || strcmp(host->fail_name, name) != 0)
        return 0;
    return host->fail_after-- <= 0 ? host->fail_error : 0;
}

static ssize_t host_read(pyglue_host_t *h, void *buf, size_t len) {
    memhost_t *host = host_of(h);
    int error = failure(host, "read");
    size_t left = host->body_len - host->body_at;

    if (error)
        return error;
    add(host, "read", (long)len, 0, NULL, 0);
    if (left == 0)
        return host->body_error;
    len = len < left ? len : left;
    len = len < host->piece ? len : host->piece;
    memcpy(buf, host->body + host->body_at, len);
    host->body_at += len;
    return (ssize_t)len;
}

/* The head as text, as a client would see it. */
static int put_head(memhost_t *host, const char *name, const pyglue_head_t *head) {
    int error = failure(host, name);
    size_t size = head->reason.len + 8, at;
    char *text;

    if (error)
        return error;
    for (size_t i = 0; i < head->header_count; i++)
        size += head->headers[i].name.len + head->headers[i].value.len + 4;
    text = malloc(size);
    at = (size_t)sprintf(text, "%d %.*s\n", head->status, (int)head->reason.len, head->reason.ptr);
    for (size_t i = 0; i < head->header_count; i++)
        at += (size_t)sprintf(text + at, "%.*s: %.*s\n", (int)head->headers[i].name.len,
                              head->headers[i].name.ptr, (int)head->headers[i].value.len,
                              head->headers[i].value.ptr);
    add(host, name, head->status, (long)head->content_length, text, at);
    free(text);
    return 0;
}

static int host_start(pyglue_host_t *h, const pyglue_head_t *head) {
    return put_head(host_of(h), "start", head);
}

static int host_interim(pyglue_host_t *h, const pyglue_head_t *head) {
    return put_head(host_of(h), "interim", head);
}

static int host_write(pyglue_host_t *h, const struct iovec *v, int n, unsigned flags) {
    memhost_t *host = host_of(h);
    int error = failure(host, "write");
    size_t len = 0;
    char *all;

    if (error)
        return error;
    for (int i = 0; i < n; i++)
        len += v[i].iov_len;
    all = malloc(len + 1);
    len = 0;
    for (int i = 0; i < n; i++) {
        memcpy(all + len, v[i].iov_base, v[i].iov_len);
        len += v[i].iov_len;
    }
    add(host, "write", (long)flags, n, all, len);
    free(all);
    return 0;
}

static int host_file(pyglue_host_t *h, int fd, int64_t offset, int64_t len) {
    memhost_t *host = host_of(h);
    int error = failure(host, "file");
    char *bytes;
    ssize_t got;

    if (error)
        return error;
    bytes = malloc((size_t)len + 1);
    got = pread(fd, bytes, (size_t)len, offset);
    add(host, "file", (long)offset, (long)len, bytes, got > 0 ? (size_t)got : 0);
    free(bytes);
    return got == len ? 0 : PYGLUE_E_IO;
}

static int host_flush(pyglue_host_t *h) {
    int error = failure(host_of(h), "flush");

    if (error == 0)
        add(host_of(h), "flush", 0, 0, NULL, 0);
    return error;
}

static int host_gone(pyglue_host_t *h) {
    (void)h;
    return 0;
}

static void host_log(pyglue_host_t *h, int level, pyglue_str_t text) {
    (void)failure(host_of(h), "log");
    add(host_of(h), "log", level, 0, text.ptr, text.len);
}

static const pyglue_host_ops_t operations = {
    sizeof operations, host_read, host_start, host_write,   host_file,
    host_flush,        host_gone, host_log,   host_interim,
};

/* Python's allocators, between which and their callers this stands once it was asked for. */

typedef struct shortage {
    bool is_armed;
    long after, most; /* so many succeed first, so many fail then */
    long failed;
} shortage_t;

static __thread shortage_t shortage; /* of the calls that this thread makes */
static PyMemAllocatorEx real[3];

static bool is_short(void) {
    if (!shortage.is_armed || shortage.after-- > 0)
        return false;
    shortage.is_armed = ++shortage.failed < shortage.most;
    return true;
}

static void *short_malloc(void *baton, size_t size) {
    PyMemAllocatorEx *from = baton;

    return is_short() ? NULL : from->malloc(from->ctx, size);
}

static void *short_calloc(void *baton, size_t count, size_t size) {
    PyMemAllocatorEx *from = baton;

    return is_short() ? NULL : from->calloc(from->ctx, count, size);
}

static void *short_realloc(void *baton, void *memory, size_t size) {
    PyMemAllocatorEx *from = baton;

    return is_short() ? NULL : from->realloc(from->ctx, memory, size);
}

static void short_free(void *baton, void *memory) {
    PyMemAllocatorEx *from = baton;

    from->free(from->ctx, memory);
}

static void stand_between(void) {
    for (int domain = PYMEM_DOMAIN_RAW; domain <= PYMEM_DOMAIN_OBJ && !real[domain].malloc;
         domain++) {
        PyMemAllocatorEx ours = {&real[domain], short_malloc, short_calloc, short_realloc,
                                 short_free};

        PyMem_GetAllocator((PyMemAllocatorDomain)domain, &real[domain]);
        PyMem_SetAllocator((PyMemAllocatorDomain)domain, &ours);
    }
}

/* The module. */

typedef struct state {
    const pyglue_engine_ops_t *ops;
    pyglue_engine_t *engine;
    pthread_mutex_t lock;
    memhost_t outside; /* what was logged while no request ran */
} state_t;

static void log_outside(void *baton, int level, pyglue_str_t text) {
    state_t *state = baton;

    pthread_mutex_lock(&state->lock);
    add(&state->outside, "log", level, 0, text.ptr, text.len);
    pthread_mutex_unlock(&state->lock);
}

/* The records as (name, a, b, bytes), which are freed. */
static PyObject *take_records(memhost_t *host) {
    PyObject *list = PyList_New(0);

    for (size_t i = 0; i < host->count; i++) {
        record_t *r = &host->records[i];
        PyObject *item =
            Py_BuildValue("(slly#)", r->name, r->a, r->b, r->bytes, (Py_ssize_t)r->len);

        if (item == NULL || list == NULL || PyList_Append(list, item))
            Py_CLEAR(list);
        Py_XDECREF(item);
        free(r->bytes);
    }
    free(host->records);
    host->records = NULL;
    host->count = 0;
    return list;
}

static PyObject *raise(int error) {
    PyErr_SetString(PyExc_RuntimeError, pyglue_error_name(error));
    return NULL;
}

static PyObject *memhost_open(PyObject *module, PyObject *args) {
    state_t *state = PyModule_GetState(module);
    pyglue_engine_settings_t settings = {
        .size = sizeof settings, .log = log_outside, .baton = state};
    const pyglue_engine_ops_t *(*symbol)(void);
    const char *file;
    void *library;
    int rv;

    if (!PyArg_ParseTuple(args, "sss:open", &file, &settings.package, &settings.settings))
        return NULL;
    library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return PyErr_Format(PyExc_OSError, "%s", dlerror());
    *(void **)&symbol = dlsym(library, PYGLUE_ENGINE_SYMBOL);
    state->ops = symbol();
    Py_BEGIN_ALLOW_THREADS
        rv = state->ops->open(&state->engine, &settings);
    Py_END_ALLOW_THREADS
    if (rv != 0)
        return raise(rv);
    Py_RETURN_NONE;
}

enum { PAIRS_MAX = 256 };

static int get_pairs(PyObject *list, pyglue_str_t *keys, pyglue_str_t *values) {
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list) && i < PAIRS_MAX; i++) {
        Py_ssize_t key_len, value_len;

        if (!PyArg_ParseTuple(PyList_GET_ITEM(list, i), "y#y#", &keys[i].ptr, &key_len,
                              &values[i].ptr, &value_len))
            return -1;
        keys[i].len = (size_t)key_len;
        values[i].len = (size_t)value_len;
    }
    return 0;
}

static PyObject *answer(int rv, const pyglue_outcome_t *outcome, memhost_t *host) {
    return Py_BuildValue("(iiiiN)", rv, outcome->kind, outcome->status, host->held_gil,
                         take_records(host));
}

/* call(number, script, callable, group, process_group, pairs, flags, content_length, body, piece,
 * body_error, fail_name, fail_after, fail_error) -> (rv, kind, status, held_gil, records) */
static int call_nogil(pyglue_outcome_t *outcome, const state_t *state, memhost_t *host,
                      const pyglue_snapshot_spec_t *spec) {
    size_t size = pyglue_snapshot_size(spec);
    void *block = malloc(size);
    int rv;

    pyglue_snapshot_build(block, size, spec);
    shortage.is_armed = shortage.after >= 0;
    rv = state->ops->call(state->engine, block, &host->host, outcome);
    shortage.is_armed = false;
    memset(block, 0xa5, size); /* whoever still looks at it shall be seen */
    free(block);
    return rv;
}

static PyObject *memhost_call(PyObject *module, PyObject *args) {
    state_t *state = PyModule_GetState(module);
    pyglue_str_t keys[PAIRS_MAX], values[PAIRS_MAX];
    pyglue_snapshot_spec_t spec = {.keys = keys,
                                   .values = values,
                                   .request_start = 1700000000000000,
                                   .queue_start = 1700000000250000,
                                   .httpd_version = {2, 4, 71},
                                   .handler = pyglue_str("wsgi-script"),
                                   .request_id = pyglue_str("request-1"),
                                   .connection_id = pyglue_str("connection-1")};
    memhost_t host = {.host = {&operations}};
    pyglue_outcome_t outcome;
    const char *script, *callable, *group, *process_group;
    Py_ssize_t body_len, piece;
    long long content_length;
    unsigned flags;
    PyObject *pairs;
    int rv;

    if (!PyArg_ParseTuple(args, "KssssO!ILy#nizii:call", &spec.number, &script, &callable, &group,
                          &process_group, &PyList_Type, &pairs, &flags, &content_length, &host.body,
                          &body_len, &piece, &host.body_error, &host.fail_name, &host.fail_after,
                          &host.fail_error) ||
        get_pairs(pairs, keys, values))
        return NULL;
    host.body_len = (size_t)body_len;
    host.piece = (size_t)piece;
    spec.pair_count = (uint32_t)PyList_GET_SIZE(pairs);
    spec.flags = flags;
    spec.content_length = content_length;
    spec.script = pyglue_str(script);
    spec.callable = pyglue_str(callable);
    spec.application_group = pyglue_str(group);
    spec.process_group = pyglue_str(process_group);
    Py_BEGIN_ALLOW_THREADS
        rv = call_nogil(&outcome, state, &host, &spec);
    Py_END_ALLOW_THREADS
    return answer(rv, &outcome, &host);
}

static PyObject *memhost_shortage(PyObject *module, PyObject *args) {
    shortage_t *s = &shortage;
    long failed = s->failed;

    (void)module;
    stand_between();
    if (!PyArg_ParseTuple(args, "ll:shortage", &s->after, &s->most))
        return NULL;
    s->failed = 0;
    return PyLong_FromLong(failed);
}

static PyObject *memhost_interrupt(PyObject *module, PyObject *args) {
    state_t *state = PyModule_GetState(module);
    unsigned long long number;
    int rv = 0;

    if (!PyArg_ParseTuple(args, "K:interrupt", &number))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
        for (unsigned gil = 0; gil < state->ops->gils(state->engine); gil++)
            rv += state->ops->interrupt(state->engine, gil, number);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(rv);
}

/* An operation of the engine's that takes and answers nothing, without the GIL. */
static PyObject *run_nogil(void (*operation)(pyglue_engine_t *), pyglue_engine_t *engine) {
    Py_BEGIN_ALLOW_THREADS
        operation(engine);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* One for each GIL, or for the one that is named. */
static PyObject *reach_nogil(void (*operation)(pyglue_engine_t *, unsigned), const state_t *state,
                             PyObject *args) {
    unsigned gil = 0, end = state->ops->gils(state->engine);

    if (PyTuple_GET_SIZE(args) > 0) {
        if (!PyArg_ParseTuple(args, "I", &gil))
            return NULL;
        end = gil + 1;
    }
    Py_BEGIN_ALLOW_THREADS
        for (; gil < end; gil++)
            operation(state->engine, gil);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *memhost_dump(PyObject *module, PyObject *args) {
    state_t *state = PyModule_GetState(module);

    return reach_nogil(state->ops->dump, state, args);
}

/* With the GIL held, which shows that none is taken. */
static PyObject *memhost_dump_stuck(PyObject *module, PyObject *args) {
    state_t *state = PyModule_GetState(module);
    int number;

    if (!PyArg_ParseTuple(args, "i:dump_stuck", &number))
        return NULL;
    state->ops->dump_stuck(state->engine, 0, number);
    Py_RETURN_NONE;
}

static PyObject *memhost_touch(PyObject *module, PyObject *args) {
    state_t *state = PyModule_GetState(module);

    return reach_nogil(state->ops->touch, state, args);
}

static PyObject *memhost_gils(PyObject *module, PyObject *Py_UNUSED(none)) {
    state_t *state = PyModule_GetState(module);

    return PyLong_FromUnsignedLong(state->ops->gils(state->engine));
}

static PyObject *memhost_load(PyObject *module, PyObject *args) {
    state_t *state = PyModule_GetState(module);
    pyglue_load_t load;
    int rv;

    if (!PyArg_ParseTuple(args, "ssz:load", &load.script, &load.application_group, &load.callable))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
        rv = state->ops->load(state->engine, &load);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(rv == 0);
}

static PyObject *memhost_thread_end(PyObject *module, PyObject *Py_UNUSED(none)) {
    state_t *state = PyModule_GetState(module);

    return run_nogil(state->ops->thread_end, state->engine);
}

static PyObject *memhost_close(PyObject *module, PyObject *Py_UNUSED(none)) {
    state_t *state = PyModule_GetState(module);
    pyglue_engine_t *engine = state->engine;

    state->engine = NULL;
    return run_nogil(state->ops->close, engine);
}

static PyObject *memhost_outside(PyObject *module, PyObject *unused) {
    state_t *state = PyModule_GetState(module);
    PyObject *records;

    (void)unused;
    pthread_mutex_lock(&state->lock);
    records = take_records(&state->outside);
    pthread_mutex_unlock(&state->lock);
    return records;
}

static int memhost_exec(PyObject *module) {
    state_t *state = PyModule_GetState(module);

    return pthread_mutex_init(&state->lock, NULL) == 0 ? 0 : -1;
}

static PyMethodDef methods[] = {
    {"open", memhost_open, METH_VARARGS, "open(engine file, package, settings)"},
    {"call", memhost_call, METH_VARARGS, "Runs one request; see the source."},
    {"shortage", memhost_shortage, METH_VARARGS,
     "shortage(after, most) -> how many failed: in this thread's calls from now on so many "
     "allocations succeed, then so many fail; -1: none does."},
    {"load", memhost_load, METH_VARARGS, "load(script, group, callable) -> bool"},
    {"interrupt", memhost_interrupt, METH_VARARGS, "interrupt(number) -> bool"},
    {"dump", memhost_dump, METH_VARARGS, "dump([gil]): logs the stacks of all threads."},
    {"dump_stuck", memhost_dump_stuck, METH_VARARGS, "dump_stuck(signal): without the first GIL."},
    {"touch", memhost_touch, METH_VARARGS, "touch([gil]): takes it and gives it back."},
    {"gils", memhost_gils, METH_NOARGS, "gils() -> int"},
    {"thread_end", memhost_thread_end, METH_NOARGS, "This thread calls no more."},
    {"close", memhost_close, METH_NOARGS, "Closes the engine."},
    {"outside", memhost_outside, METH_NOARGS, "Takes what was logged outside of requests."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)memhost_exec},
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_memhost",
    .m_size = sizeof(state_t),
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__memhost(void) {
    return PyModuleDef_Init(&definition);
}
