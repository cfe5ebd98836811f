/* SPDX-License-Identifier: Apache-2.0 */
/* An extension module that runs in any interpreter and whose one function keeps the GIL, as bad
 * extensions do: until somebody opens the FIFO of this name to write, or for ever. */
#include <Python.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static PyObject *keep(PyObject *module, PyObject *path) {
    const char *name = PyUnicode_AsUTF8(path);
    int fd;

    (void)module;
    if (name == NULL)
        return NULL;
    do
        fd = open(name, O_RDONLY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    close(fd);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"keep", keep, METH_O, NULL}, {NULL, NULL, 0, NULL}};

static PyModuleDef_Slot slots[] = {
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL}};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "keeps_gil", .m_methods = methods,
                                 .m_slots = slots};

PyMODINIT_FUNC PyInit_keeps_gil(void) {
    return PyModuleDef_Init(&definition);
}
