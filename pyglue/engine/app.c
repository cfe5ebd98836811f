/* SPDX-License-Identifier: Apache-2.0 */
/* A loaded application: the callable of a script, kept with the time of the file it came from.
 * Loading itself, with its lock for each script, is pyglue.loader.script's. */
#include "eng.h"

typedef struct eng_app {
    PyObject_HEAD PyObject *module;
    PyObject *callable;
    PyObject *reload_required; /* the script's own say, or NULL */
    long long modified;        /* µs */
    atomic_int watched; /* in a worker, by the last request's WSGIScriptReloading; -1: none */
} eng_app_t;

static eng_app_t *app_of(PyObject *self) {
    return (eng_app_t *)(void *)self;
}

static int app_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(app_of(self)->module);
    Py_VISIT(app_of(self)->callable);
    Py_VISIT(app_of(self)->reload_required);
    return 0;
}

static int app_clear(PyObject *self) {
    Py_CLEAR(app_of(self)->module);
    Py_CLEAR(app_of(self)->callable);
    Py_CLEAR(app_of(self)->reload_required);
    return 0;
}

static void app_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    app_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot app_slots[] = {
    {Py_tp_traverse, app_traverse},
    {Py_tp_clear, app_clear},
    {Py_tp_dealloc, app_dealloc},
    {0, NULL},
};

PyType_Spec eng_app_spec = {
    .name = "pyglue._engine.App",
    .basicsize = sizeof(eng_app_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = app_slots,
};

/* What a script's own reload_required(path) says; an exception is logged and means no. */
static bool is_outdated(eng_state_t *state, const eng_app_t *app, pyglue_str_t script) {
    PyObject *answer;
    int is_true;

    answer =
        PyObject_CallFunction(app->reload_required, "N",
                              PyUnicode_DecodeFSDefaultAndSize(script.ptr, (Py_ssize_t)script.len));
    is_true = answer != NULL ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    if (is_true < 0)
        eng_exc_log(state, NULL, ENG_ID(3006), "reload_required() failed, the script is kept",
                    script);
    return is_true > 0;
}

static bool is_current(eng_state_t *state, eng_app_t *app, pyglue_str_t script, int64_t modified) {
    if (modified == 0)
        return true;
    if (app->modified != modified)
        return false;
    return app->reload_required == NULL || !is_outdated(state, app, script);
}

static void note_loaded(eng_state_t *state, pyglue_str_t script, pyglue_str_t callable) {
    const eng_interp_t *interp = state->interp;

    if (state->engine == NULL)
        return;
    atomic_store(&state->engine->has_loaded, true);
    if (callable.len > 0 && interp != NULL)
        eng_loaded_add(state->engine, script, (pyglue_str_t){interp->name, interp->name_len},
                       callable);
}

/* find(path, callable, stale) -> (module, object, mtime, reload_required) */
static eng_app_t *load(eng_state_t *state, pyglue_str_t script, pyglue_str_t callable,
                       PyObject *stale) {
    eng_app_t *app = PyObject_GC_New(eng_app_t, state->app_type);
    PyObject *found, *required = NULL;

    if (app == NULL)
        return NULL;
    app->module = app->callable = app->reload_required = NULL;
    atomic_init(&app->watched, -1);
    PyObject_GC_Track(app);
    found = PyObject_CallFunction(
        state->find, "NNO", PyUnicode_DecodeFSDefaultAndSize(script.ptr, (Py_ssize_t)script.len),
        PyUnicode_DecodeLatin1(callable.ptr, (Py_ssize_t)callable.len, NULL), stale);
    if (found == NULL ||
        !PyArg_ParseTuple(found, "OOLO", &app->module, &app->callable, &app->modified, &required)) {
        app->module = app->callable = NULL;
        Py_CLEAR(app);
    } else {
        Py_INCREF(app->module);
        Py_INCREF(app->callable);
        app->reload_required = required != Py_None ? Py_NewRef(required) : NULL;
        note_loaded(state, script, callable);
    }
    Py_XDECREF(found);
    return app;
}

/* script, NUL, callable: neither has a NUL. */
static size_t key_of(char *key, size_t room, pyglue_str_t script, pyglue_str_t callable) {
    size_t len = script.len + 1 + callable.len;

    if (len > room)
        return 0;
    memcpy(key, script.ptr, script.len);
    key[script.len] = '\0';
    memcpy(key + script.len + 1, callable.ptr, callable.len);
    return len;
}

/* A worker is not reloaded but replaced: by who watches its files, if they are to be watched. */
static void mind_worker(eng_state_t *state, eng_app_t *app, pyglue_str_t script,
                        enum eng_reloads reloads) {
    bool is_watched = reloads == ENG_WORKER_RELOADS;

    if (reloads == ENG_RELOADS_ITSELF)
        return;
    if (atomic_load(&app->watched) != is_watched &&
        atomic_exchange(&app->watched, is_watched) != is_watched)
        eng_note_watch(state->engine, script.ptr, is_watched);
    if (is_watched && app->reload_required != NULL && is_outdated(state, app, script))
        eng_note_outdate(state->engine, script.ptr);
}

PyObject *eng_app_new(eng_state_t *state, pyglue_str_t script, pyglue_str_t callable,
                      int64_t modified, enum eng_reloads reloads) {
    char key[4096 + 256]; /* PATH_MAX and a name */
    size_t len = key_of(key, sizeof key, script, callable);
    PyObject *known = len > 0 ? eng_table_new(&state->apps, key, len) : NULL;
    PyObject *callable_object;
    eng_app_t *app;

    if (len == 0) {
        PyErr_SetString(PyExc_ValueError, "the path of the script is too long");
        return NULL;
    }
    if (known != NULL && is_current(state, app_of(known), script, modified)) {
        mind_worker(state, app_of(known), script, reloads);
        callable_object = Py_NewRef(app_of(known)->callable);
        Py_DECREF(known);
        return callable_object;
    }
    app = load(state, script, callable, known != NULL ? app_of(known)->module : Py_None);
    Py_XDECREF(known);
    if (app == NULL)
        return NULL;
    mind_worker(state, app, script, reloads);
    callable_object = Py_NewRef(app->callable);
    if (eng_table_put(&state->apps, key, len, (PyObject *)app, SIZE_MAX)) {
        PyErr_NoMemory();
        Py_CLEAR(callable_object);
    }
    Py_DECREF(app);
    return callable_object;
}
