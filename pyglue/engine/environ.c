/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshot to environ: a copy of a dict that never changes, plus this request's own values.
 * Which variables there are is the host's side (the snapshot's pairs); here they become str. */
#include "eng.h"

#include <time.h>

enum { KEYS_MAX = 1024 }; /* interned ones: clients invent header names */

double eng_environ_now(void) {
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Steals value. 0 or -1; a NULL value is an exception of its maker. */
static int set(PyObject *dict, PyObject *key, PyObject *value) {
    int rv = value != NULL ? PyDict_SetItem(dict, key, value) : -1;

    Py_XDECREF(value);
    return rv;
}

static PyObject *latin1(pyglue_str_t text) {
    return PyUnicode_DecodeLatin1(text.ptr, (Py_ssize_t)text.len, NULL);
}

int eng_environ_prepare(eng_state_t *state) {
    PyObject *base = PyDict_New();
    PyObject **names = state->names;

    if (base == NULL)
        return -1;
    Py_XSETREF(state->base_environ, base);
    if (set(base, names[ENG_NAME_SCRIPT_NAME], Py_NewRef(names[ENG_NAME_EMPTY])) ||
        set(base, names[ENG_NAME_PATH_INFO], Py_NewRef(names[ENG_NAME_EMPTY])) ||
        set(base, names[ENG_NAME_QUERY_STRING], Py_NewRef(names[ENG_NAME_EMPTY])) ||
        set(base, names[ENG_NAME_VERSION], Py_BuildValue("(ii)", 1, 0)) ||
        set(base, names[ENG_NAME_INPUT_TERMINATED], Py_NewRef(Py_True)) ||
        set(base, names[ENG_NAME_FILE_WRAPPER], Py_NewRef((PyObject *)state->file_type)) ||
        set(base, names[ENG_NAME_HANDLER_SCRIPT], Py_NewRef(names[ENG_NAME_EMPTY])))
        return -1;
    return set(base, names[ENG_NAME_MOD_WSGI_VERSION],
               Py_BuildValue("(iii)", ENG_MOD_WSGI_VERSION));
}

/* The interned key of these bytes, a new reference. */
static PyObject *key_new(eng_state_t *state, pyglue_str_t text) {
    PyObject *key = eng_table_new(&state->keys, text.ptr, text.len);

    if (key != NULL)
        return key;
    key = latin1(text);
    if (key == NULL)
        return NULL;
    PyUnicode_InternInPlace(&key);
    /* Without memory for the table the key is just made again next time. */
    (void)eng_table_put(&state->keys, text.ptr, text.len, key, KEYS_MAX);
    return key;
}

/* Paths as Python's own functions would give them; all else as PEP 3333 wants it. */
static PyObject *value_new(eng_state_t *state, PyObject *key, pyglue_str_t text) {
    if (key == state->names[ENG_NAME_SCRIPT_FILENAME] ||
        key == state->names[ENG_NAME_DOCUMENT_ROOT])
        return PyUnicode_DecodeFSDefaultAndSize(text.ptr, (Py_ssize_t)text.len);
    return latin1(text);
}

static int add_pairs(eng_state_t *state, PyObject *dict, const pyglue_snapshot_t *snapshot) {
    for (uint32_t i = 0; i < snapshot->pair_count; i++) {
        const pyglue_pair_t *pair = &snapshot->pairs[i];
        PyObject *key = key_new(state, pyglue_snapshot_text(snapshot, pair->key));
        int rv;

        if (key == NULL)
            return -1;
        rv = set(dict, key, value_new(state, key, pyglue_snapshot_text(snapshot, pair->value)));
        Py_DECREF(key);
        if (rv)
            return -1;
    }
    return 0;
}

static int add_texts(eng_state_t *state, PyObject *dict, const pyglue_snapshot_t *snapshot) {
    const struct {
        enum eng_name name;
        pyglue_slice_t text;
    } texts[] = {
        {ENG_NAME_PROCESS_GROUP, snapshot->process_group},
        {ENG_NAME_APPLICATION_GROUP, snapshot->application_group},
        {ENG_NAME_CALLABLE_OBJECT, snapshot->callable},
        {ENG_NAME_REQUEST_HANDLER, snapshot->handler},
        {ENG_NAME_REQUEST_ID, snapshot->request_id},
        {ENG_NAME_CONNECTION_ID, snapshot->connection_id},
    };

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (set(dict, state->names[texts[i].name],
                latin1(pyglue_snapshot_text(snapshot, texts[i].text))))
            return -1;
    return 0;
}

static int add_flags(eng_state_t *state, PyObject *dict, uint32_t flags) {
    const struct {
        enum eng_name name;
        uint32_t flag;
    } bools[] = {
        {ENG_NAME_MULTITHREAD, PYGLUE_REQ_MULTITHREAD},
        {ENG_NAME_MULTIPROCESS, PYGLUE_REQ_MULTIPROCESS},
        {ENG_NAME_RUN_ONCE, PYGLUE_REQ_RUN_ONCE},
    };
    enum eng_name scheme = flags & PYGLUE_REQ_HTTPS ? ENG_NAME_HTTPS : ENG_NAME_HTTP;

    for (size_t i = 0; i < sizeof bools / sizeof bools[0]; i++)
        if (PyDict_SetItem(dict, state->names[bools[i].name],
                           flags & bools[i].flag ? Py_True : Py_False))
            return -1;
    return PyDict_SetItem(dict, state->names[ENG_NAME_URL_SCHEME], state->names[scheme]);
}

static int add_times(eng_state_t *state, PyObject *dict, const pyglue_snapshot_t *snapshot,
                     double entered) {
    const struct {
        enum eng_name name;
        double seconds;
    } times[] = {
        {ENG_NAME_REQUEST_START, (double)snapshot->request_start / 1e6},
        {ENG_NAME_QUEUE_START, (double)snapshot->queue_start / 1e6},
        {ENG_NAME_DAEMON_START, snapshot->process_group.length > 0 ? entered : 0.0},
        {ENG_NAME_APPLICATION_START, eng_environ_now()},
    };

    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++)
        if (set(dict, state->names[times[i].name], PyFloat_FromDouble(times[i].seconds)))
            return -1;
    return 0;
}

/* httpd's version is the same in every request but the first of another httpd. */
static PyObject *version_new(eng_state_t *state, const int32_t *numbers) {
    PyObject *version = NULL, *old;

    eng_compat_lock(&state->leaf);
    if (memcmp(state->httpd_numbers, numbers, sizeof state->httpd_numbers) == 0)
        version = Py_XNewRef(state->httpd_version);
    eng_compat_unlock(&state->leaf);
    if (version != NULL)
        return version;
    version = Py_BuildValue("(iii)", numbers[0], numbers[1], numbers[2]);
    if (version == NULL)
        return NULL;
    eng_compat_lock(&state->leaf);
    old = state->httpd_version;
    state->httpd_version = Py_NewRef(version);
    memcpy(state->httpd_numbers, numbers, sizeof state->httpd_numbers);
    eng_compat_unlock(&state->leaf);
    Py_XDECREF(old);
    return version;
}

/* Nothing is made where it may not be used, which is nearly everywhere. */
static int add_hints(eng_state_t *state, PyObject *dict, eng_request_t *request) {
    return request->interims == 0
               ? 0
               : set(dict, state->names[ENG_NAME_EARLY_HINTS], eng_start_hints_new(request));
}

PyObject *eng_environ_new(eng_state_t *state, eng_request_t *request, PyObject *input,
                          PyObject *errors, unsigned thread_number, double entered) {
    const pyglue_snapshot_t *snapshot = request->snapshot;
    PyObject *dict = PyDict_Copy(state->base_environ);

    if (dict == NULL)
        return NULL;
    if (add_pairs(state, dict, snapshot) || add_texts(state, dict, snapshot) ||
        add_flags(state, dict, snapshot->flags) || add_hints(state, dict, request) ||
        set(dict, state->names[ENG_NAME_APACHE_VERSION],
            version_new(state, snapshot->httpd_version)) ||
        PyDict_SetItem(dict, state->names[ENG_NAME_INPUT], input) ||
        PyDict_SetItem(dict, state->names[ENG_NAME_ERRORS], errors) ||
        set(dict, state->names[ENG_NAME_THREAD_ID], PyLong_FromUnsignedLong(thread_number)) ||
        add_times(state, dict, snapshot, entered))
        Py_CLEAR(dict);
    return dict;
}
