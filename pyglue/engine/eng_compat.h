/* SPDX-License-Identifier: Apache-2.0 */
/* Every #if of the engine on a Python version. */
#ifndef PYGLUE_ENG_COMPAT_H
#define PYGLUE_ENG_COMPAT_H

#define PY_SSIZE_T_CLEAN /* lengths in argument formats, before 3.13 */
#include <Python.h>
#include <structmember.h>

#if PY_VERSION_HEX >= 0x030C0000
#define ENG_MODULE_INTERPRETERS                                                                    \
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#else
#define ENG_MODULE_INTERPRETERS
#endif

/* The head of a request is filled without locks of our own: the GIL is wanted. */
#if PY_VERSION_HEX >= 0x030D0000
#define ENG_MODULE_GIL {Py_mod_gil, Py_MOD_GIL_USED},
#else
#define ENG_MODULE_GIL
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
