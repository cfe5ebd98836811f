/* SPDX-License-Identifier: Apache-2.0 */
/* Every #if of the engine on a Python version. */
#ifndef PYGLUE_ENG_COMPAT_H
#define PYGLUE_ENG_COMPAT_H

#define PY_SSIZE_T_CLEAN /* lengths in argument formats, before 3.13 */
#include <Python.h>
#include <stdbool.h>
#include <structmember.h>

#if PY_VERSION_HEX >= 0x030C0000
#define ENG_MODULE_INTERPRETERS                                                                    \
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#else
#define ENG_MODULE_INTERPRETERS
#endif

#if PY_VERSION_HEX >= 0x030D0000
#define ENG_MODULE_GIL {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#else
#define ENG_MODULE_GIL
#endif

/* Where there is a GIL it guards all Python objects, and both of these are nothing. In a
 * free-threaded build a critical section guards one object, or two: like the GIL it is let go while
 * the thread waits or is detached. Nothing returns or jumps out of one. */
#if PY_VERSION_HEX < 0x030D0000
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#define Py_BEGIN_CRITICAL_SECTION2(one, other) {
#define Py_END_CRITICAL_SECTION2() }
#endif

/* A leaf: no Python object is made, asked or freed under it. Zeroed memory is a free one. */
#ifdef Py_GIL_DISABLED
typedef PyMutex eng_leaf_t;
static inline void eng_compat_lock(eng_leaf_t *leaf) {
    PyMutex_Lock(leaf);
}
static inline void eng_compat_unlock(eng_leaf_t *leaf) {
    PyMutex_Unlock(leaf);
}
#else
typedef struct eng_leaf {
    char unused;
} eng_leaf_t;
static inline void eng_compat_lock(eng_leaf_t *leaf) {
    (void)leaf;
}
static inline void eng_compat_unlock(eng_leaf_t *leaf) {
    (void)leaf;
}
#endif

/* A free-threaded build: its GIL is on, or as that Python has it by itself: off, until an extension
 * that wants it is imported. */
static inline void eng_compat_choose_gil(PyConfig *config, bool has_gil) {
#if PY_VERSION_HEX >= 0x030D0000 && defined(Py_GIL_DISABLED)
    if (has_gil)
        config->enable_gil = 1;
#else
    (void)config, (void)has_gil;
#endif
}

/* A new interpreter, whose first thread state is attached in place of the caller's; with a GIL of
 * its own where that is asked for and known, 3.12. It may do what others may: fork, start threads.
 * NULL: there is none. */
static inline PyThreadState *eng_compat_new_interpreter(bool has_own_gil) {
#if PY_VERSION_HEX >= 0x030C0000
    const PyInterpreterConfig config = {.use_main_obmalloc = 0,
                                        .allow_fork = 1,
                                        .allow_exec = 1,
                                        .allow_threads = 1,
                                        .allow_daemon_threads = 1,
                                        .check_multi_interp_extensions = 1,
                                        .gil = PyInterpreterConfig_OWN_GIL};
    PyThreadState *python = NULL;

    if (has_own_gil)
        return PyStatus_Exception(Py_NewInterpreterFromConfig(&python, &config)) ? NULL : python;
#else
    (void)has_own_gil;
#endif
    return Py_NewInterpreter();
}
/* Is whoever has the GIL asked for it by who waits? Before 3.13 only threads of the interpreter
 * that the waiting one belongs to are: one that runs in another, without a pause, keeps it for
 * ever. */
#if PY_VERSION_HEX >= 0x030D0000
enum { ENG_ASKS_HOLDER = 1 };
#else
enum { ENG_ASKS_HOLDER = 0 };
#endif

#ifdef Py_GIL_DISABLED
enum { ENG_HAS_GIL = 0 };
#else
enum { ENG_HAS_GIL = 1 };
#endif

/* The current exception as one object with its traceback, a new reference; none is set after. */
static inline PyObject *eng_compat_take_exception(void) {
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL && value != NULL)
        PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}

/* The opposite; steals the reference, NULL: nothing. */
static inline void eng_compat_set_exception(PyObject *exception) {
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(exception);
#else
    if (exception == NULL)
        return;
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(exception)), exception,
                  PyException_GetTraceback(exception));
#endif
}

#endif
