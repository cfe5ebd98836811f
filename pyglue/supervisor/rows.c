/* SPDX-License-Identifier: Apache-2.0 */
/* The type Rows: what httpd's children tell of themselves in their memory, copied and checked at
 * each question. They can write all of it, its count included, and may shrink its file.
 * Down: pyglue/bridge/placement.h. */
#include "memories.h"

#include <sys/stat.h>
#include <unistd.h>

#include "placement.h"

typedef struct rows_object {
    PyObject_HEAD pyglue_rows_t *copy; /* private; what the last call read */
    size_t size;                       /* of the file when the object was made */
    int fd;                            /* the caller's, who keeps it open */
} rows_object_t;

static void rows_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    PyMem_Free(((rows_object_t *)self)->copy);
    type->tp_free(self);
    Py_DECREF(type);
}

/* A fresh, checked copy; NULL with an exception. Valid until the next call on this object. */
static const pyglue_rows_t *borrowed_copy(PyObject *self) {
    rows_object_t *r = (rows_object_t *)self;
    ssize_t got = pread(r->fd, r->copy, r->size, 0);

    if (got == -1) {
        PyErr_SetFromErrno(PyExc_OSError);
        return NULL;
    }
    if (pyglue_rows_check(r->copy, (size_t)got)) {
        PyErr_SetString(PyExc_ValueError, "the rows are not of this layout and version");
        return NULL;
    }
    return r->copy;
}

static PyObject *rows_check(PyObject *self, PyObject *Py_UNUSED(none)) {
    if (borrowed_copy(self) != NULL)
        Py_RETURN_TRUE;
    if (!PyErr_ExceptionMatches(PyExc_ValueError))
        return NULL;
    PyErr_Clear(); /* ValueError of borrowed_copy: it is the answer */
    Py_RETURN_FALSE;
}

static PyObject *rows_children(PyObject *self, PyObject *Py_UNUSED(none)) {
    const pyglue_rows_t *rows = borrowed_copy(self);
    PyObject *list = rows ? PyList_New(0) : NULL;

    for (unsigned i = 0; list != NULL && i < pyglue_rows_count(rows); i++) {
        PyObject *pair;
        uint64_t plan;
        int32_t pid;

        if (!pyglue_rows_get_child(rows, i, &pid, &plan))
            continue;
        pair = Py_BuildValue("iK", (int)pid, (unsigned long long)plan);
        if (pair == NULL || PyList_Append(list, pair))
            Py_CLEAR(list);
        Py_XDECREF(pair);
    }
    return list;
}

static PyObject *rows_sum(PyObject *self, PyObject *args) {
    const pyglue_rows_t *rows;
    unsigned long long number;
    unsigned slot;

    if (!PyArg_ParseTuple(args, "IK:sum", &slot, &number) ||
        !memories_has_slot(slot, PYGLUE_WORKER_SLOTS))
        return NULL;
    rows = borrowed_copy(self);
    return rows ? PyLong_FromUnsignedLong(pyglue_rows_sum(rows, slot, number)) : NULL;
}

static PyObject *rows_waiting(PyObject *self, PyObject *args) {
    const pyglue_rows_t *rows;
    const char *digest;
    Py_ssize_t digest_len;
    unsigned slot;

    if (!PyArg_ParseTuple(args, "Iy#:waiting", &slot, &digest, &digest_len) ||
        !memories_has_slot(slot, PYGLUE_GROUP_SLOTS) ||
        !memories_has_size("digest", digest_len, PYGLUE_DIGEST_SIZE))
        return NULL;
    rows = borrowed_copy(self);
    return rows ? PyLong_FromUnsignedLong(pyglue_rows_waiting(rows, slot, (const uint8_t *)digest))
                : NULL;
}

/* What the caller names by (slot, digest) and by (slot, number), all from one copy. */
static int add_level(PyObject *list, const pyglue_rows_t *rows, PyObject *pair) {
    unsigned slot;
    PyObject *name, *level;
    unsigned count;

    if (!PyArg_ParseTuple(pair, "IO", &slot, &name))
        return -1;
    if (PyBytes_Check(name)) {
        if (!memories_has_slot(slot, PYGLUE_GROUP_SLOTS) ||
            !memories_has_size("digest", PyBytes_GET_SIZE(name), PYGLUE_DIGEST_SIZE))
            return -1;
        count = pyglue_rows_waiting(rows, slot, (const uint8_t *)PyBytes_AS_STRING(name));
    } else {
        unsigned long long number = PyLong_AsUnsignedLongLong(name);

        if (PyErr_Occurred() || !memories_has_slot(slot, PYGLUE_WORKER_SLOTS))
            return -1;
        count = pyglue_rows_sum(rows, slot, number);
    }
    level = PyLong_FromUnsignedLong(count);
    if (level == NULL || PyList_Append(list, level)) {
        Py_XDECREF(level);
        return -1;
    }
    Py_DECREF(level);
    return 0;
}

/* The fence stands between what was just written into the pages and what is read here: a child that
 * takes a place after this copy has seen those pages (SUCCESSION 6). */
static PyObject *rows_levels(PyObject *self, PyObject *names) {
    PyObject *list = PyList_New(0), *sequence = PySequence_Fast(names, "names is not a sequence");
    const pyglue_rows_t *rows;

    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    rows = list != NULL && sequence != NULL ? borrowed_copy(self) : NULL;
    if (rows == NULL)
        Py_CLEAR(list);
    for (Py_ssize_t i = 0; list != NULL && i < PySequence_Fast_GET_SIZE(sequence); i++)
        if (add_level(list, rows, PySequence_Fast_GET_ITEM(sequence, i)))
            Py_CLEAR(list);
    Py_XDECREF(sequence);
    return list;
}

static PyMethodDef rows_methods[] = {
    {"check", rows_check, METH_NOARGS, "Is it of this layout and version?"},
    {"children", rows_children, METH_NOARGS, "children() -> list of (pid, plan)"},
    {"sum", rows_sum, METH_VARARGS, "sum(slot, number) -> requests at this worker"},
    {"waiting", rows_waiting, METH_VARARGS,
     "waiting(slot, digest) -> requests that wait for this group"},
    {"levels", rows_levels, METH_O,
     "levels([(slot, digest) or (slot, number)]) -> list: how many wait for that group, or are at "
     "that worker"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot rows_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t) "The rows memory, copied at each question; made by rows()."},
    {Py_tp_dealloc, (void *)(uintptr_t)rows_dealloc},
    {Py_tp_traverse, (void *)(uintptr_t)memories_traverse},
    {Py_tp_methods, rows_methods},
    {0, NULL},
};

PyType_Spec rows_spec = {
    .name = "pyglue._pages.Rows",
    .basicsize = sizeof(rows_object_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = rows_slots,
};

PyObject *rows_of(PyTypeObject *type, int fd) {
    rows_object_t *r;
    struct stat st;

    if (fstat(fd, &st) == -1)
        return PyErr_SetFromErrno(PyExc_OSError);
    r = (rows_object_t *)type->tp_alloc(type, 0);
    if (r == NULL)
        return NULL;
    r->fd = fd;
    r->size = (size_t)st.st_size;
    r->copy = PyMem_Malloc(r->size + 1);
    if (r->copy == NULL) {
        Py_DECREF(r);
        return PyErr_NoMemory();
    }
    return (PyObject *)r;
}
