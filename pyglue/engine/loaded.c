/* SPDX-License-Identifier: Apache-2.0 */
/* Which applications this process has loaded, in all its interpreters: plain memory under the
 * engine's lock. A worker writes them down for its successors (pyglue/worker/loaded.py). */
#include "eng.h"

struct eng_loaded {
    eng_loaded_t *next;
    size_t script, group, callable; /* lengths of the texts, one behind the other */
    char texts[];
};

static bool is_it(const eng_loaded_t *loaded, pyglue_str_t script, pyglue_str_t group,
                  pyglue_str_t callable) {
    const char *at = loaded->texts;

    return loaded->script == script.len && loaded->group == group.len &&
           loaded->callable == callable.len && memcmp(at, script.ptr, script.len) == 0 &&
           memcmp(at + script.len, group.ptr, group.len) == 0 &&
           memcmp(at + script.len + group.len, callable.ptr, callable.len) == 0;
}

static eng_loaded_t *new_loaded(pyglue_str_t script, pyglue_str_t group, pyglue_str_t callable) {
    eng_loaded_t *loaded = malloc(sizeof *loaded + script.len + group.len + callable.len);

    if (loaded == NULL)
        return NULL;
    loaded->script = script.len;
    loaded->group = group.len;
    loaded->callable = callable.len;
    memcpy(loaded->texts, script.ptr, script.len);
    memcpy(loaded->texts + script.len, group.ptr, group.len);
    memcpy(loaded->texts + script.len + group.len, callable.ptr, callable.len);
    return loaded;
}

void eng_loaded_add(pyglue_engine_t *engine, pyglue_str_t script, pyglue_str_t group,
                    pyglue_str_t callable) {
    eng_loaded_t *loaded;

    pthread_mutex_lock(&engine->lock);
    loaded = engine->loaded;
    while (loaded != NULL && !is_it(loaded, script, group, callable))
        loaded = loaded->next;
    if (loaded == NULL && (loaded = new_loaded(script, group, callable)) != NULL) {
        loaded->next = engine->loaded;
        engine->loaded = loaded;
    }
    pthread_mutex_unlock(&engine->lock);
}

/* As the notes: only ever added in front, and never freed before close. */
PyObject *eng_loaded_list(PyObject *module, PyObject *unused) {
    pyglue_engine_t *engine = eng_state_of(module)->engine;
    PyObject *list = PyList_New(0);
    const eng_loaded_t *loaded = NULL;

    (void)unused;
    if (engine != NULL) {
        pthread_mutex_lock(&engine->lock);
        loaded = engine->loaded;
        pthread_mutex_unlock(&engine->lock);
    }
    for (; list != NULL && loaded != NULL; loaded = loaded->next) {
        const char *at = loaded->texts;
        PyObject *one =
            Py_BuildValue("y#y#y#", at, (Py_ssize_t)loaded->script, at + loaded->script,
                          (Py_ssize_t)loaded->group, at + loaded->script + loaded->group,
                          (Py_ssize_t)loaded->callable);

        if (one == NULL || PyList_Append(list, one))
            Py_CLEAR(list);
        Py_XDECREF(one);
    }
    return list;
}

void eng_loaded_clear(pyglue_engine_t *engine) {
    while (engine->loaded != NULL) {
        eng_loaded_t *loaded = engine->loaded;

        engine->loaded = loaded->next;
        free(loaded);
    }
}
