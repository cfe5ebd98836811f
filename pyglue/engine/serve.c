/* SPDX-License-Identifier: Apache-2.0 */
/* pyglue._engine.Worker: the engine and the pool of pyglue/worker, as one Python object.
 *
 * It only binds: arguments to C, results to exceptions, the GIL let go wherever C may wait. The
 * engine is reached through its public table (pyglue_engine), like by any other host. */
#include <Python.h>
#include <errno.h>

#include "engine.h"
#include "serve.h"
#include "worker.h"

typedef struct serve {
    PyObject_HEAD const pyglue_engine_ops_t *ops;
    pyglue_engine_t *engine; /* NULL until open */
    wkr_pool_t *pool;        /* NULL until serve, and after stop */
} serve_t;

static serve_t *serve_of(PyObject *self) {
    return (serve_t *)(void *)self;
}

/* OSError where a system call failed, MemoryError, else RuntimeError with the bridge's text. */
static PyObject *raise_error(int error) {
    if (error == PYGLUE_E_IO)
        return PyErr_SetFromErrno(PyExc_OSError);
    if (error == PYGLUE_E_NOMEM)
        return PyErr_NoMemory();
    PyErr_SetString(PyExc_RuntimeError, pyglue_error_text(error));
    return NULL;
}

static PyObject *none_or_error(int error) {
    if (error != 0)
        return raise_error(error);
    Py_RETURN_NONE;
}

/* What is written while no request runs goes to descriptor 2, and so to the group's error log. */
static void log_line(void *baton, int level, pyglue_str_t text) {
    (void)baton;
    (void)level;
    wkr_say_text(text);
    if (text.len > 0 && text.ptr[text.len - 1] != '\n')
        wkr_say_text(pyglue_str("\n"));
}

static PyObject *serve_open(PyObject *self, PyObject *args) {
    serve_t *serve = serve_of(self);
    pyglue_engine_settings_t settings = {.size = sizeof settings, .log = log_line};
    int rv;

    if (!PyArg_ParseTuple(args, "ys:open", &settings.package, &settings.settings))
        return NULL;
    if (serve->engine != NULL)
        return raise_error(PYGLUE_E_STATE);
    serve->ops = pyglue_engine();
    Py_BEGIN_ALLOW_THREADS
        rv = serve->ops->open(&serve->engine, &settings);
    Py_END_ALLOW_THREADS
    return none_or_error(rv);
}

static PyObject *serve_load(PyObject *self, PyObject *args) {
    serve_t *serve = serve_of(self);
    pyglue_load_t load;
    int rv;

    if (!PyArg_ParseTuple(args, "yyz:load", &load.script, &load.application_group, &load.callable))
        return NULL;
    if (serve->engine == NULL)
        return raise_error(PYGLUE_E_STATE);
    Py_BEGIN_ALLOW_THREADS
        rv = serve->ops->load(serve->engine, &load);
    Py_END_ALLOW_THREADS
    if (rv != 0 && rv != PYGLUE_E_PYTHON)
        return raise_error(rv);
    return PyBool_FromLong(rv == 0);
}

/* The descriptors that no forked child may keep, as ints. -1 with an exception set. */
static int get_descriptors(int *fds, unsigned *count, unsigned room, PyObject *sequence) {
    PyObject *tuple = PySequence_Tuple(sequence);

    if (tuple == NULL)
        return -1;
    *count = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple) && *count < room; i++)
        fds[(*count)++] = (int)PyLong_AsLong(PyTuple_GET_ITEM(tuple, i));
    Py_DECREF(tuple);
    return PyErr_Occurred() ? -1 : 0;
}

static int start(serve_t *serve, const wkr_settings_t *settings, const int *fds, unsigned count) {
    int rv;

    Py_BEGIN_ALLOW_THREADS
        rv = wkr_pool_start(&serve->pool, settings, serve->ops, serve->engine);
    Py_END_ALLOW_THREADS
    return rv != 0 ? rv : wkr_process_forks(serve->pool, fds, count);
}

/* The settings of the pool. */

static int get_key(uint8_t *key, PyObject *value) {
    char *bytes;
    Py_ssize_t size;

    if (PyBytes_AsStringAndSize(value, &bytes, &size))
        return -1;
    if (size != PYGLUE_KEY_SIZE) {
        PyErr_Format(PyExc_ValueError, "key: %d bytes are wanted", PYGLUE_KEY_SIZE);
        return -1;
    }
    memcpy(key, bytes, PYGLUE_KEY_SIZE);
    return 0;
}

static int get_number(wkr_settings_t *settings, const wkr_setting_t *row, PyObject *value) {
    unsigned long long number = PyLong_AsUnsignedLongLong(value);

    if (PyErr_Occurred())
        return -1;
    if (wkr_setting_put(settings, row, number) == 0)
        return 0;
    PyErr_Format(PyExc_OverflowError, "%s: %llu is too much", row->name, number);
    return -1;
}

/* All rows, each given, and nothing else. 0, or -1 with an exception set. */
static int get_settings(wkr_settings_t *settings, PyObject *keywords) {
    for (unsigned i = 0; i < wkr_setting_count; i++) {
        const wkr_setting_t *row = &wkr_setting_rows[i];
        PyObject *borrowed_value = PyDict_GetItemString(keywords, row->name);

        if (borrowed_value == NULL) {
            PyErr_Format(PyExc_TypeError, "serve() wants '%s'", row->name);
            return -1;
        }
        if (row->kind == WKR_SETTING_KEY ? get_key(settings->key, borrowed_value)
                                         : get_number(settings, row, borrowed_value))
            return -1;
    }
    if (PyDict_GET_SIZE(keywords) == wkr_setting_count)
        return 0;
    PyErr_SetString(PyExc_TypeError, "serve() was given a setting that it does not know");
    return -1;
}

static PyObject *serve_serve(PyObject *self, PyObject *args, PyObject *keywords) {
    enum { ROOM = 16 };
    serve_t *serve = serve_of(self);
    wkr_settings_t settings = {0};
    PyObject *private;
    int fds[ROOM];
    unsigned count;

    if (!PyArg_ParseTuple(args, "O:serve", &private) || get_descriptors(fds, &count, ROOM, private))
        return NULL;
    if (keywords == NULL)
        return PyErr_Format(PyExc_TypeError, "serve() wants its settings");
    if (get_settings(&settings, keywords))
        return NULL;
    if (serve->engine == NULL || serve->pool != NULL)
        return raise_error(PYGLUE_E_STATE);
    return none_or_error(start(serve, &settings, fds, count));
}

static PyObject *serve_watch(PyObject *self, PyObject *unused) {
    serve_t *serve = serve_of(self);

    (void)unused;
    if (serve->pool == NULL)
        return raise_error(PYGLUE_E_STATE);
    wkr_pool_watch(serve->pool);
    Py_RETURN_NONE;
}

static PyObject *serve_drain(PyObject *self, PyObject *unused) {
    serve_t *serve = serve_of(self);

    (void)unused;
    if (serve->pool == NULL)
        return raise_error(PYGLUE_E_STATE);
    wkr_process_state(WKR_STATE_LEAVING);
    Py_BEGIN_ALLOW_THREADS
        wkr_pool_drain(serve->pool);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *serve_connections(PyObject *self, PyObject *unused) {
    serve_t *serve = serve_of(self);

    (void)unused;
    return PyLong_FromUnsignedLong(serve->pool != NULL ? wkr_pool_connections(serve->pool) : 0);
}

static PyObject *serve_activity(PyObject *self, PyObject *unused) {
    serve_t *serve = serve_of(self);
    uint64_t served = 0;
    unsigned running = 0;

    (void)unused;
    if (serve->pool != NULL)
        wkr_pool_activity(serve->pool, &served, &running);
    return Py_BuildValue("KI", (unsigned long long)served, running);
}

static PyObject *serve_stop(PyObject *self, PyObject *unused) {
    serve_t *serve = serve_of(self);
    wkr_pool_t *pool = serve->pool;

    (void)unused;
    serve->pool = NULL;
    if (pool != NULL) {
        wkr_process_forks_end();
        Py_BEGIN_ALLOW_THREADS
            wkr_pool_stop(pool);
        Py_END_ALLOW_THREADS
    }
    Py_RETURN_NONE;
}

static PyObject *serve_close(PyObject *self, PyObject *unused) {
    serve_t *serve = serve_of(self);
    pyglue_engine_t *engine = serve->engine;

    (void)unused;
    if (serve->pool != NULL)
        return raise_error(PYGLUE_E_STATE);
    serve->engine = NULL;
    if (engine != NULL) {
        Py_BEGIN_ALLOW_THREADS
            serve->ops->close(engine);
        Py_END_ALLOW_THREADS
    }
    Py_RETURN_NONE;
}

static PyObject *serve_commands(PyObject *unused, PyObject *args) {
    int control, log, events;

    (void)unused;
    if (!PyArg_ParseTuple(args, "iii:commands", &control, &log, &events))
        return NULL;
    return none_or_error(wkr_process_commands(control, log, events));
}

static PyObject *serve_ready(PyObject *unused, PyObject *is_loaded) {
    (void)unused;
    wkr_process_ready(PyObject_IsTrue(is_loaded) == 1);
    Py_RETURN_NONE;
}

static PyObject *serve_reload_ms(PyObject *unused, PyObject *none) {
    (void)unused;
    (void)none;
    return PyLong_FromUnsignedLongLong(wkr_process_reload_ms());
}

static PyObject *serve_signals(PyObject *unused, PyObject *args) {
    int events;

    (void)unused;
    if (!PyArg_ParseTuple(args, "i:signals", &events))
        return NULL;
    return none_or_error(wkr_process_signals(events));
}

static PyObject *serve_watchdog(PyObject *unused, PyObject *args) {
    unsigned milliseconds;

    (void)unused;
    if (!PyArg_ParseTuple(args, "I:watchdog", &milliseconds))
        return NULL;
    wkr_process_watchdog(milliseconds);
    Py_RETURN_NONE;
}

static PyObject *serve_name(PyObject *unused, PyObject *args) {
    const char *name;

    (void)unused;
    if (!PyArg_ParseTuple(args, "y:name", &name))
        return NULL;
    wkr_process_name(name);
    Py_RETURN_NONE;
}

static PyObject *serve_undumpable(PyObject *unused, PyObject *none) {
    (void)unused;
    (void)none;
    return none_or_error(wkr_process_undumpable());
}

static void serve_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);

    /* A pool or an engine that was not ended lives on: its threads run without this object. */
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef serve_methods[] = {
    {"open", serve_open, METH_VARARGS,
     "open(package, settings): open the engine in this Python; settings: docs/bridge.md 8, JSON."},
    {"load", serve_load, METH_VARARGS,
     "load(script: bytes, application_group: bytes, callable: str | None) -> bool: load a script "
     "now; False: it failed, the log tells why."},
    {"serve", (PyCFunction)(void (*)(void))serve_serve, METH_VARARGS | METH_KEYWORDS,
     "serve(private, *, ...): start the threads. private: descriptors that no forked child keeps; "
     "keywords: the settings of wkr_settings_t, all of them (worker/settings.c)."},
    {"watch", serve_watch, METH_NOARGS,
     "After READY, once: the time-outs and limits of the settings hold from now on."},
    {"drain", serve_drain, METH_NOARGS, "Leave; EVENT_LEFT on the events pipe tells the end."},
    {"connections", serve_connections, METH_NOARGS, "How many connections are open now."},
    {"activity", serve_activity, METH_NOARGS, "Requests that were run, and those that run now."},
    {"stop", serve_stop, METH_NOARGS, "After EVENT_LEFT: end the threads and wait for them."},
    {"close", serve_close, METH_NOARGS, "After stop: end sub-interpreters."},
    {"commands", serve_commands, METH_VARARGS | METH_STATIC,
     "commands(control, log, events): the supervisor's commands become bytes on the events pipe; "
     "end-of-file or a command before ready() ends the process."},
    {"ready", serve_ready, METH_O | METH_STATIC,
     "ready(is_loaded: bool): from now on leaving takes its time."},
    {"reload_ms", serve_reload_ms, METH_NOARGS | METH_STATIC,
     "When the last SIGUSR1 came, ms of the monotonic clock."},
    {"signals", serve_signals, METH_VARARGS | METH_STATIC,
     "signals(events): SIGTERM, SIGINT, SIGUSR1 and SIGXCPU become bytes on this pipe."},
    {"watchdog", serve_watchdog, METH_VARARGS | METH_STATIC,
     "watchdog(milliseconds): the process exits then, whatever Python does."},
    {"name", serve_name, METH_VARARGS | METH_STATIC, "name(bytes): what ps shows."},
    {"undumpable", serve_undumpable, METH_NOARGS | METH_STATIC, "prctl(PR_SET_DUMPABLE, 0)."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot serve_slots[] = {
    {Py_tp_doc, "A worker: the engine of this process and the threads that serve its socket."},
    {Py_tp_methods, serve_methods},
    {Py_tp_dealloc, serve_dealloc},
    {0, NULL},
};

static PyType_Spec serve_spec = {
    .name = "pyglue._engine.Worker",
    .basicsize = sizeof(serve_t),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = serve_slots,
};

static const struct {
    const char *name;
    long value;
} constants[] = {
    {"ENGINE_VERSION", PYGLUE_ENGINE_VERSION},
    {"EVENT_MAXIMUM", WKR_EVENT_MAXIMUM},
    {"EVENT_LEFT", WKR_EVENT_LEFT},
    {"EVENT_LEAVE", WKR_EVENT_LEAVE},
    {"EVENT_ORPHAN", WKR_EVENT_ORPHAN},
    {"EVENT_STALE", WKR_EVENT_STALE},
};

int eng_serve_exec(PyObject *module) {
    PyObject *type = PyType_FromModuleAndSpec(module, &serve_spec, NULL);
    int rv;

    if (type == NULL)
        return -1;
    rv = PyModule_AddType(module, (PyTypeObject *)(void *)type);
    Py_DECREF(type);
    for (size_t i = 0; rv == 0 && i < sizeof constants / sizeof constants[0]; i++)
        rv = PyModule_AddIntConstant(module, constants[i].name, constants[i].value);
    return rv;
}
