/* SPDX-License-Identifier: Apache-2.0 */
/* The module pyglue._pages: its functions, what it reads of a worker's record, its constants, and
 * the checks of arguments that its types share. */
#include "memories.h"

#include <unistd.h>

#include "placement.h"
#include "record.h"

typedef struct state {
    PyTypeObject *pages_type;
    PyTypeObject *rows_type;
} state_t;

/* Arguments. */

int memories_has_slot(unsigned slot, unsigned slots) {
    if (slot < slots)
        return 1;
    PyErr_Format(PyExc_IndexError, "slot %u is not one of 0 to %u", slot, slots - 1);
    return 0;
}

int memories_has_size(const char *what, Py_ssize_t is, Py_ssize_t wanted) {
    if (is == wanted)
        return 1;
    PyErr_Format(PyExc_ValueError, "a %s has %zd bytes, not %zd", what, wanted, is);
    return 0;
}

int memories_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    return 0;
}

/* Records. */

/* (number, start_ms, id, line) of each request that runs. */
static PyObject *list_of_running(const pyglue_record_t *copy) {
    PyObject *list = PyList_New(0);

    for (unsigned i = 0; list != NULL && i < copy->slots; i++) {
        pyglue_str_t id, line;
        PyObject *one;

        if (copy->slot[i].number == 0)
            continue;
        pyglue_record_what(&id, &line, copy, i);
        one = Py_BuildValue("KKNN", (unsigned long long)copy->slot[i].number,
                            (unsigned long long)copy->slot[i].start_ms,
                            PyBytes_FromStringAndSize(id.ptr, (Py_ssize_t)id.len),
                            PyBytes_FromStringAndSize(line.ptr, (Py_ssize_t)line.len));
        if (one == NULL || PyList_Append(list, one))
            Py_CLEAR(list);
        Py_XDECREF(one);
    }
    return list;
}

static PyObject *told_of(const pyglue_record_t *copy, size_t size) {
    if (pyglue_record_check(copy, size))
        return PyErr_Format(PyExc_ValueError, "the record is not of this layout and version");
    return Py_BuildValue(
        "IKKIN", copy->slots, (unsigned long long)copy->requests, (unsigned long long)copy->refused,
        copy->version >= 2 ? copy->ending : PYGLUE_ENDING_UNSAID, list_of_running(copy));
}

static PyObject *module_read_record(PyObject *Py_UNUSED(module), PyObject *args) {
    pyglue_record_t *copy;
    PyObject *told;
    ssize_t got;
    int fd;

    if (!PyArg_ParseTuple(args, "i:read_record", &fd))
        return NULL;
    copy = PyMem_Calloc(1, sizeof *copy);
    if (copy == NULL)
        return PyErr_NoMemory();
    got = pread(fd, copy, sizeof *copy, 0);
    told = got == -1 ? PyErr_SetFromErrno(PyExc_OSError) : told_of(copy, (size_t)got);
    PyMem_Free(copy);
    return told;
}

/* Functions. */

static PyObject *module_map(PyObject *module, PyObject *args) {
    state_t *state = PyModule_GetState(module);
    int fd, writable;

    return PyArg_ParseTuple(args, "ip:map", &fd, &writable)
               ? pages_map(state->pages_type, fd, writable)
               : NULL;
}

static PyObject *module_rows(PyObject *module, PyObject *args) {
    state_t *state = PyModule_GetState(module);
    int fd;

    return PyArg_ParseTuple(args, "i:rows", &fd) ? rows_of(state->rows_type, fd) : NULL;
}

static PyObject *module_size_pages(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
    return PyLong_FromSize_t(pyglue_pages_size());
}

static PyObject *module_size_rows(PyObject *Py_UNUSED(module), PyObject *args) {
    unsigned rows;

    return PyArg_ParseTuple(args, "I:size_rows", &rows) ? PyLong_FromSize_t(pyglue_rows_size(rows))
                                                        : NULL;
}

static PyObject *module_size_record(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
    return PyLong_FromSize_t(sizeof(pyglue_record_t));
}

static PyMethodDef module_methods[] = {
    {"map", module_map, METH_VARARGS, "map(fd, writable) -> Pages"},
    {"rows", module_rows, METH_VARARGS, "rows(fd) -> Rows; fd stays the caller's, and open"},
    {"read_record", module_read_record, METH_VARARGS,
     "read_record(fd) -> (slots, requests, refused, ending, [(number, start_ms, id, line)])"},
    {"size_pages", module_size_pages, METH_NOARGS, "size_pages() -> bytes"},
    {"size_rows", module_size_rows, METH_VARARGS, "size_rows(rows) -> bytes"},
    {"size_record", module_size_record, METH_NOARGS, "size_record() -> bytes"},
    {NULL, NULL, 0, NULL},
};

/* The module. */

static const struct {
    const char *name;
    long value;
} constants[] = {
    {"WORKER_SLOTS", PYGLUE_WORKER_SLOTS},
    {"GROUP_SLOTS", PYGLUE_GROUP_SLOTS},
    {"OBITUARY_REQUESTS", PYGLUE_OBITUARY_REQUESTS},
    {"RECORD_SLOTS", PYGLUE_RECORD_SLOTS},
    {"RECORD_LINE", PYGLUE_RECORD_LINE},
    {"RECORD_ID", PYGLUE_RECORD_ID},
    {"ENDING_STARTUP", PYGLUE_ENDING_STARTUP},
    {"KEY_SIZE", PYGLUE_KEY_SIZE},
    {"DIGEST_SIZE", PYGLUE_DIGEST_SIZE},
    {"SOCKET_PATH", PYGLUE_SOCKET_PATH},
    {"WORKER_READY", PYGLUE_WORKER_READY},
    {"WORKER_LEAVING", PYGLUE_WORKER_LEAVING},
    {"GROUP_STARTING", PYGLUE_GROUP_STARTING},
    {"GROUP_SERVING", PYGLUE_GROUP_SERVING},
    {"GROUP_DISABLED", PYGLUE_GROUP_DISABLED},
    {"GROUP_IDLE", PYGLUE_GROUP_IDLE},
};

static int add_type(PyObject *module, PyTypeObject **type, PyType_Spec *spec) {
    *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    return *type == NULL ? -1 : PyModule_AddType(module, *type);
}

static int module_exec(PyObject *module) {
    state_t *state = PyModule_GetState(module);

    for (size_t i = 0; i < sizeof constants / sizeof constants[0]; i++)
        if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value))
            return -1;
    if (add_type(module, &state->pages_type, &pages_spec))
        return -1;
    return add_type(module, &state->rows_type, &rows_spec);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
    state_t *state = PyModule_GetState(module);

    Py_VISIT(state->pages_type);
    Py_VISIT(state->rows_type);
    return 0;
}

static int module_clear(PyObject *module) {
    state_t *state = PyModule_GetState(module);

    Py_CLEAR(state->pages_type);
    Py_CLEAR(state->rows_type);
    return 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, (void *)(uintptr_t)module_exec},
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_pages",
    .m_doc = "The shared memories, for the supervisor.",
    .m_size = sizeof(state_t),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
};

PyMODINIT_FUNC PyInit__pages(void);
PyMODINIT_FUNC PyInit__pages(void) {
    return PyModuleDef_Init(&module_def);
}
