/* SPDX-License-Identifier: Apache-2.0 */
/* The files that matter to a worker's watcher, with their times, of all interpreters of the
 * process: plain memory under the engine's lock. pyglue.loader.reload is its face in Python. */
#include <sys/stat.h>

#include "eng.h"

enum { GONE = -1 }; /* as pyglue.loader.script notes a file that is not there */

struct eng_note {
    eng_note_t *next;
    _Atomic(int64_t) modified;
    atomic_bool is_ignored; /* WSGIScriptReloading Off where it serves */
    char path[];
};

static eng_note_t *find_locked(pyglue_engine_t *engine, const char *path) {
    eng_note_t *note = engine->notes;

    while (note != NULL && strcmp(note->path, path) != 0)
        note = note->next;
    return note;
}

/* The first time that was noted stays: where a file changed before another interpreter loaded it,
 * the one before has old code, and the process is to be replaced. */
static int put(pyglue_engine_t *engine, const char *path, int64_t modified) {
    size_t size = strlen(path) + 1;
    eng_note_t *note;

    pthread_mutex_lock(&engine->lock);
    note = find_locked(engine, path);
    if (note == NULL && (note = malloc(sizeof *note + size)) != NULL) {
        memcpy(note->path, path, size);
        note->modified = modified;
        note->is_ignored = false;
        note->next = engine->notes;
        engine->notes = note;
    }
    pthread_mutex_unlock(&engine->lock);
    return note == NULL ? -1 : 0;
}

void eng_note_watch(pyglue_engine_t *engine, const char *path, bool is_watched) {
    eng_note_t *note;

    pthread_mutex_lock(&engine->lock);
    note = find_locked(engine, path);
    if (note != NULL)
        note->is_ignored = !is_watched;
    pthread_mutex_unlock(&engine->lock);
}

void eng_note_outdate(pyglue_engine_t *engine, const char *path) {
    eng_note_t *note;

    pthread_mutex_lock(&engine->lock);
    note = find_locked(engine, path);
    if (note != NULL)
        note->modified = 0;
    pthread_mutex_unlock(&engine->lock);
}

bool eng_note_is_current(pyglue_engine_t *engine, const char *path) {
    struct stat st;
    eng_note_t *note;
    int64_t modified = 0;
    bool matters;

    pthread_mutex_lock(&engine->lock);
    note = find_locked(engine, path);
    matters = note != NULL && !note->is_ignored;
    if (matters)
        modified = note->modified;
    pthread_mutex_unlock(&engine->lock);
    if (!matters) /* not loaded yet */
        return true;
    if (stat(path, &st))
        return modified == GONE;
    return modified == (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
}

PyObject *eng_note_unwatch(PyObject *module, PyObject *path) {
    eng_state_t *state = eng_state_of(module);
    PyObject *bytes;

    if (!PyUnicode_FSConverter(path, &bytes))
        return NULL;
    if (state->engine != NULL)
        eng_note_watch(state->engine, PyBytes_AS_STRING(bytes), false);
    Py_DECREF(bytes);
    Py_RETURN_NONE;
}

PyObject *eng_note_add(PyObject *module, PyObject *args) {
    eng_state_t *state = eng_state_of(module);
    PyObject *path;
    long long modified;
    int rv = 0;

    if (!PyArg_ParseTuple(args, "O&L:note", PyUnicode_FSConverter, &path, &modified))
        return NULL;
    if (state->engine != NULL)
        rv = put(state->engine, PyBytes_AS_STRING(path), modified);
    Py_DECREF(path);
    if (rv)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static int add(PyObject *dict, const eng_note_t *note) {
    PyObject *path = PyUnicode_DecodeFSDefault(note->path);
    PyObject *modified = PyLong_FromLongLong(note->modified);
    int rv = path && modified ? PyDict_SetItem(dict, path, modified) : -1;

    Py_XDECREF(path);
    Py_XDECREF(modified);
    return rv;
}

/* Notes are only ever added in front and never freed before close, so the list may be walked
 * without the lock from a head that was read under it. */
PyObject *eng_note_list(PyObject *module, PyObject *unused) {
    pyglue_engine_t *engine = eng_state_of(module)->engine;
    PyObject *dict = PyDict_New();
    const eng_note_t *note = NULL;

    (void)unused;
    if (engine != NULL) {
        pthread_mutex_lock(&engine->lock);
        note = engine->notes;
        pthread_mutex_unlock(&engine->lock);
    }
    for (; dict != NULL && note != NULL; note = note->next)
        if (!note->is_ignored && add(dict, note))
            Py_CLEAR(dict);
    return dict;
}

void eng_note_clear(pyglue_engine_t *engine) {
    while (engine->notes != NULL) {
        eng_note_t *note = engine->notes;

        engine->notes = note->next;
        free(note);
    }
}
