/* SPDX-License-Identifier: Apache-2.0 */
/* A Python exception to log text and to the status of the request it ends. The only translator.
 *
 * What users can mend (pyglue.errors.PyglueError) is told in its own words, without a traceback;
 * everything else with one. Formatting may fail itself: then the type's name must do. */
#include "eng.h"

/* Is this entry of a traceback the loader's own? */
static bool is_loaders(PyObject *entry) {
    PyObject *frame = PyObject_GetAttrString(entry, "tb_frame");
    PyObject *globals = frame != NULL ? PyObject_GetAttrString(frame, "f_globals") : NULL;
    PyObject *name = globals != NULL ? PyMapping_GetItemString(globals, "__name__") : NULL;
    bool is = name != NULL && PyUnicode_Check(name) &&
              PyUnicode_CompareWithASCIIString(name, "pyglue.loader.script") == 0;

    PyErr_Clear(); /* no name, or no memory: it is shown, then */
    Py_XDECREF(name);
    Py_XDECREF(globals);
    Py_XDECREF(frame);
    return is;
}

/* The part of a traceback that is the application's: how we loaded it helps nobody. A new
 * reference, also to None; NULL: another exception is set. */
static PyObject *traceback_of(PyObject *exception) {
    PyObject *entry = PyException_GetTraceback(exception);

    if (entry == NULL)
        return Py_NewRef(Py_None);
    while (entry != NULL && entry != Py_None && is_loaders(entry)) {
        PyObject *next = PyObject_GetAttrString(entry, "tb_next");

        Py_DECREF(entry);
        entry = next;
    }
    return entry;
}

/* The traceback as one str. NULL: another exception is set. */
static PyObject *format(PyObject *exception) {
    PyObject *module = PyImport_ImportModule("traceback");
    PyObject *lines = NULL, *text = NULL, *nothing = PyUnicode_FromString("");

    if (module != NULL && nothing != NULL) {
        PyObject *traceback = traceback_of(exception);

        if (traceback != NULL)
            lines = PyObject_CallMethod(module, "format_exception", "OOO", Py_TYPE(exception),
                                        exception, traceback);
        Py_XDECREF(traceback);
    }
    if (lines != NULL)
        text = PyUnicode_Join(nothing, lines);
    Py_XDECREF(module);
    Py_XDECREF(lines);
    Py_XDECREF(nothing);
    return text;
}

/* UTF-8 of the log text; `what` NULL: in the exception's own words. NULL without an exception set:
 * it could not be made. */
static PyObject *encode(PyObject *exception, const char *id, const char *what,
                        pyglue_str_t script) {
    PyObject *text = what == NULL ? PyObject_Str(exception) : format(exception);
    PyObject *path =
        PyUnicode_DecodeFSDefaultAndSize(script.ptr ? script.ptr : "", (Py_ssize_t)script.len);
    PyObject *entry = NULL, *bytes = NULL;

    if (text != NULL && path != NULL && what == NULL)
        entry = PyUnicode_FromFormat("%s%U", id, text);
    else if (text != NULL && path != NULL && script.len > 0)
        entry = PyUnicode_FromFormat("%sscript '%U': %s (%s)\n%U", id, path, what,
                                     Py_TYPE(exception)->tp_name, text);
    else if (text != NULL && path != NULL)
        entry = PyUnicode_FromFormat("%s%s (%s)\n%U", id, what, Py_TYPE(exception)->tp_name, text);
    if (entry != NULL)
        bytes = PyUnicode_AsEncodedString(entry, "utf-8", "backslashreplace");
    PyErr_Clear(); /* of str() or traceback: the caller names the type instead */
    Py_XDECREF(text);
    Py_XDECREF(path);
    Py_XDECREF(entry);
    return bytes;
}

static void log_bytes(eng_state_t *state, eng_request_t *request, PyObject *bytes) {
    size_t len = (size_t)PyBytes_GET_SIZE(bytes);

    while (len > 0 && PyBytes_AS_STRING(bytes)[len - 1] == '\n')
        len--;
    eng_log(state, request, PYGLUE_LEVEL_ERROR, PyBytes_AS_STRING(bytes), len);
}

/* The message id of a PyglueError: its class attribute `id`, which is "PGnnnn". */
static void own_id(PyObject *exception, char *id, size_t size) {
    PyObject *text = PyObject_GetAttrString(exception, "id");
    const char *bytes = text != NULL && PyUnicode_Check(text) ? PyUnicode_AsUTF8(text) : NULL;

    snprintf(id, size, "%s: ", bytes != NULL ? bytes : "PG3100");
    PyErr_Clear(); /* a child of PyglueError that a later version brought along */
    Py_XDECREF(text);
}

static int status_of(eng_state_t *state, PyObject *exception) {
    PyObject *status = PyObject_GetAttr(exception, state->names[ENG_NAME_STATUS]);
    long number = status != NULL ? PyLong_AsLong(status) : -1;

    Py_XDECREF(status);
    PyErr_Clear(); /* none, or not a number: any failure is a 500 */
    return number == 403 || number == 404 ? (int)number : 500;
}

/* Is it the import of an extension that does not run in this interpreter? Then what to do. */
static void log_remedy(eng_state_t *state, eng_request_t *request, PyObject *exception) {
    PyObject *module = NULL, *text = NULL, *bytes = NULL;

    if (!PyErr_GivenExceptionMatches(exception, PyExc_ImportError))
        return;
    module = PyImport_ImportModule("pyglue.loader.refusal");
    if (module != NULL)
        text = PyObject_CallMethod(module, "explain", "O", exception);
    if (text != NULL && PyUnicode_Check(text))
        bytes = PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
    PyErr_Clear(); /* the exception itself was logged: there is no more to say, then */
    if (bytes != NULL)
        log_bytes(state, request, bytes);
    Py_XDECREF(module);
    Py_XDECREF(text);
    Py_XDECREF(bytes);
}

static bool is_timeout(const eng_state_t *state, PyObject *exception) {
    return state->timeout != NULL && PyErr_GivenExceptionMatches(exception, state->timeout);
}

int eng_exc_log(eng_state_t *state, eng_request_t *request, const char *id, const char *what,
                pyglue_str_t script) {
    char own[16];
    PyObject *exception = eng_compat_take_exception();
    bool is_plain;
    PyObject *bytes;
    int status = 500;

    if (exception == NULL)
        return status;
    if (is_timeout(state, exception)) {
        /* Where it hung stands in the log already. */
        eng_log_format(state, request, PYGLUE_LEVEL_ERROR,
                       ENG_ID(3021) "script '%.*s': %s: it ran for longer than request-timeout and "
                                    "was interrupted",
                       (int)script.len, script.ptr ? script.ptr : "", what);
        Py_DECREF(exception);
        return 504;
    }
    is_plain =
        state->error != NULL && PyObject_TypeCheck(exception, (PyTypeObject *)(void *)state->error);
    if (is_plain) {
        own_id(exception, own, sizeof own);
        id = own;
    }
    bytes = encode(exception, id, is_plain ? NULL : what, script);
    if (bytes != NULL)
        log_bytes(state, request, bytes);
    else
        eng_log_format(state, request, PYGLUE_LEVEL_ERROR, "%sscript '%.*s': %s (%s)", id,
                       (int)script.len, script.ptr ? script.ptr : "", what,
                       Py_TYPE(exception)->tp_name);
    if (is_plain)
        status = status_of(state, exception);
    else
        log_remedy(state, request, exception);
    Py_XDECREF(bytes);
    Py_DECREF(exception);
    return status;
}

void eng_exc_log_early(pyglue_engine_t *engine, const char *what) {
    PyObject *exception = eng_compat_take_exception();
    PyObject *bytes = exception != NULL ? encode(exception, "", what, pyglue_str("")) : NULL;
    pyglue_str_t text = pyglue_str(what);

    if (bytes != NULL)
        text = (pyglue_str_t){PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)};
    engine->log(engine->baton, PYGLUE_LEVEL_ERROR, text);
    Py_XDECREF(bytes);
    Py_XDECREF(exception);
}
