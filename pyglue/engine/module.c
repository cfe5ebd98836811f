/* SPDX-License-Identifier: Apache-2.0 */
/* The extension pyglue._engine: multi-phase init, the state of one interpreter with its traverse
 * and clear, and the few functions that pyglue's own Python calls. Joins engine and worker. */
#include "eng.h"

#include "serve.h"

static const char *const names[ENG_NAMES] = {
    [ENG_NAME_SCRIPT_NAME] = "SCRIPT_NAME",
    [ENG_NAME_PATH_INFO] = "PATH_INFO",
    [ENG_NAME_QUERY_STRING] = "QUERY_STRING",
    [ENG_NAME_SCRIPT_FILENAME] = "SCRIPT_FILENAME",
    [ENG_NAME_DOCUMENT_ROOT] = "DOCUMENT_ROOT",
    [ENG_NAME_VERSION] = "wsgi.version",
    [ENG_NAME_URL_SCHEME] = "wsgi.url_scheme",
    [ENG_NAME_MULTITHREAD] = "wsgi.multithread",
    [ENG_NAME_MULTIPROCESS] = "wsgi.multiprocess",
    [ENG_NAME_RUN_ONCE] = "wsgi.run_once",
    [ENG_NAME_ERRORS] = "wsgi.errors",
    [ENG_NAME_INPUT] = "wsgi.input",
    [ENG_NAME_INPUT_TERMINATED] = "wsgi.input_terminated",
    [ENG_NAME_FILE_WRAPPER] = "wsgi.file_wrapper",
    [ENG_NAME_EARLY_HINTS] = "wsgi.early_hints",
    [ENG_NAME_APACHE_VERSION] = "apache.version",
    [ENG_NAME_MOD_WSGI_VERSION] = "mod_wsgi.version",
    [ENG_NAME_PROCESS_GROUP] = "mod_wsgi.process_group",
    [ENG_NAME_APPLICATION_GROUP] = "mod_wsgi.application_group",
    [ENG_NAME_CALLABLE_OBJECT] = "mod_wsgi.callable_object",
    [ENG_NAME_REQUEST_HANDLER] = "mod_wsgi.request_handler",
    [ENG_NAME_HANDLER_SCRIPT] = "mod_wsgi.handler_script",
    [ENG_NAME_REQUEST_ID] = "mod_wsgi.request_id",
    [ENG_NAME_CONNECTION_ID] = "mod_wsgi.connection_id",
    [ENG_NAME_THREAD_ID] = "mod_wsgi.thread_id",
    [ENG_NAME_REQUEST_START] = "mod_wsgi.request_start",
    [ENG_NAME_QUEUE_START] = "mod_wsgi.queue_start",
    [ENG_NAME_DAEMON_START] = "mod_wsgi.daemon_start",
    [ENG_NAME_APPLICATION_START] = "mod_wsgi.application_start",
    [ENG_NAME_HTTP] = "http",
    [ENG_NAME_HTTPS] = "https",
    [ENG_NAME_EMPTY] = "",
    [ENG_NAME_CLOSE] = "close",
    [ENG_NAME_READ] = "read",
    [ENG_NAME_FILENO] = "fileno",
    [ENG_NAME_TELL] = "tell",
    [ENG_NAME_RAW] = "raw",
    [ENG_NAME_STATUS] = "status",
};

static const struct {
    PyType_Spec *spec;
    size_t offset; /* of the type in the state */
    bool is_public;
} types[] = {
    {&eng_app_spec, offsetof(eng_state_t, app_type), false},
    {&eng_start_spec, offsetof(eng_state_t, request_type), false},
    {&eng_input_spec, offsetof(eng_state_t, input_type), false},
    {&eng_stream_spec, offsetof(eng_state_t, stream_type), false},
    {&eng_file_spec, offsetof(eng_state_t, file_type), true},
};
#define TYPES (sizeof types / sizeof types[0])

/* Every other object of the state that is not in an array or a table. */
static const size_t objects[] = {
    offsetof(eng_state_t, base_environ), offsetof(eng_state_t, httpd_version),
    offsetof(eng_state_t, find),         offsetof(eng_state_t, error),
    offsetof(eng_state_t, buffered),     offsetof(eng_state_t, raw),
    offsetof(eng_state_t, timeout),      offsetof(eng_state_t, stacks),
};
#define OBJECTS (sizeof objects / sizeof objects[0])

static PyObject **slot(eng_state_t *state, size_t offset) {
    return (PyObject **)(void *)((char *)state + offset);
}

eng_state_t *eng_state_of(PyObject *module) {
    return PyModule_GetState(module);
}

static int add_types(PyObject *module, eng_state_t *state) {
    for (size_t i = 0; i < TYPES; i++) {
        PyObject *type = PyType_FromModuleAndSpec(module, types[i].spec, NULL);

        if (type == NULL)
            return -1;
        *slot(state, types[i].offset) = type;
        if (types[i].is_public && PyModule_AddType(module, (PyTypeObject *)(void *)type))
            return -1;
    }
    return 0;
}

static int module_exec(PyObject *module) {
    eng_state_t *state = eng_state_of(module);
    PyObject *version;

    for (size_t i = 0; i < ENG_NAMES; i++)
        if ((state->names[i] = PyUnicode_InternFromString(names[i])) == NULL)
            return -1;
    version = Py_BuildValue("(iii)", ENG_MOD_WSGI_VERSION);
    if (version == NULL || PyModule_AddObjectRef(module, "MOD_WSGI_VERSION", version)) {
        Py_XDECREF(version);
        return -1;
    }
    Py_DECREF(version);
    if (add_types(module, state))
        return -1;
    return eng_serve_exec(module);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
    eng_state_t *state = eng_state_of(module);
    int rv;

    for (size_t i = 0; i < TYPES; i++)
        Py_VISIT(*slot(state, types[i].offset));
    for (size_t i = 0; i < ENG_NAMES; i++)
        Py_VISIT(state->names[i]);
    for (size_t i = 0; i < OBJECTS; i++)
        Py_VISIT(*slot(state, objects[i]));
    rv = eng_table_traverse(&state->keys, visit, arg);
    return rv != 0 ? rv : eng_table_traverse(&state->apps, visit, arg);
}

static int module_clear(PyObject *module) {
    eng_state_t *state = eng_state_of(module);

    for (size_t i = 0; i < TYPES; i++)
        Py_CLEAR(*slot(state, types[i].offset));
    for (size_t i = 0; i < ENG_NAMES; i++)
        Py_CLEAR(state->names[i]);
    for (size_t i = 0; i < OBJECTS; i++)
        Py_CLEAR(*slot(state, objects[i]));
    eng_table_clear(&state->keys);
    eng_table_clear(&state->apps);
    return 0;
}

static void module_free(void *module) {
    module_clear(module);
}

/* What pyglue's Python calls. */

static PyObject *module_log(PyObject *module, PyObject *args) {
    const char *text;
    Py_ssize_t len;
    int level;

    if (!PyArg_ParseTuple(args, "is#:log", &level, &text, &len))
        return NULL;
    eng_log(eng_state_of(module), NULL, level, text, (size_t)len);
    Py_RETURN_NONE;
}

static PyObject *module_stream(PyObject *module, PyObject *args) {
    const char *name;

    if (!PyArg_ParseTuple(args, "s:stream", &name))
        return NULL;
    return eng_stream_new(eng_state_of(module), NULL, name);
}

static PyObject *module_request_id(PyObject *module, PyObject *unused) {
    pyglue_engine_t *engine = eng_state_of(module)->engine;
    eng_thread_t *thread = engine ? pthread_getspecific(engine->thread_key) : NULL;
    pyglue_str_t id;

    (void)unused;
    if (thread == NULL || thread->request == NULL || thread->request->host == NULL)
        Py_RETURN_NONE;
    id = pyglue_snapshot_text(thread->request->snapshot, thread->request->snapshot->request_id);
    return PyUnicode_DecodeLatin1(id.ptr, (Py_ssize_t)id.len, NULL);
}

static PyObject *module_forked(PyObject *module, PyObject *unused) {
    pyglue_engine_t *engine = eng_state_of(module)->engine;

    (void)unused;
    if (engine != NULL)
        engine->is_forked = true;
    Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {
    {"log", module_log, METH_VARARGS, "log(level, text): one entry of the error log."},
    {"stream", module_stream, METH_VARARGS, "stream(name): a text stream into the error log."},
    {"request_id", module_request_id, METH_NOARGS, "httpd's id of this thread's request, or None."},
    {"note", eng_note_add, METH_VARARGS, "note(path, mtime): a file that matters to this process."},
    {"unwatch", eng_note_unwatch, METH_O, "unwatch(path): its changes do not count."},
    {"noted", eng_note_list, METH_NOARGS, "noted() -> dict: path to mtime, of all interpreters."},
    {"loaded", eng_loaded_list, METH_NOARGS,
     "loaded() -> list: script, application group and callable of what was loaded, as bytes."},
    {"forked", module_forked, METH_NOARGS, "This process is a fork: it must not use the host."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, (void *)module_exec},
    ENG_MODULE_INTERPRETERS ENG_MODULE_GIL{0, NULL},
};

static PyModuleDef module_definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "pyglue._engine",
    .m_doc = "Runs WSGI applications for a host: docs/bridge.md.",
    .m_size = sizeof(eng_state_t),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__engine(void) {
    return PyModuleDef_Init(&module_definition);
}
