/* SPDX-License-Identifier: Apache-2.0 */
/* The type Pages: the memory by which the supervisor tells httpd's children of workers and groups,
 * mapped, and each of the bridge's reads and writes of it as a method. Which slot is whose is
 * pages.py's. Down: pyglue/bridge/placement.h. */
#include "memories.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include "placement.h"

typedef struct pages_object {
    PyObject_HEAD pyglue_pages_t *pages; /* our mapping, never NULL once made */
    size_t size;
    int writable;
} pages_object_t;

static void pages_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    pages_object_t *p = (pages_object_t *)self;

    PyObject_GC_UnTrack(self);
    if (p->pages != NULL)
        munmap(p->pages, p->size);
    type->tp_free(self);
    Py_DECREF(type);
}

/* The memory, for a writer; NULL with an exception: it was mapped read-only. */
static pyglue_pages_t *borrowed_writable(PyObject *self) {
    pages_object_t *p = (pages_object_t *)self;

    if (!p->writable) {
        PyErr_SetString(PyExc_PermissionError, "these pages are mapped read-only");
        return NULL;
    }
    return p->pages;
}

/* A cause is prose: what does not fit is cut, at a character's start. */
static void copy_cause(char *to, const char *from, Py_ssize_t len) {
    Py_ssize_t end = len < PYGLUE_CAUSE_SIZE ? len : PYGLUE_CAUSE_SIZE - 1;

    while (end < len && end > 0 && ((unsigned char)from[end] & 0xc0) == 0x80)
        end--;
    memcpy(to, from, (size_t)end);
}

static PyObject *pages_init(PyObject *self, PyObject *Py_UNUSED(none)) {
    pyglue_pages_t *pages = borrowed_writable(self);

    if (pages == NULL)
        return NULL;
    pyglue_pages_init(pages);
    Py_RETURN_NONE;
}

static PyObject *pages_check(PyObject *self, PyObject *Py_UNUSED(none)) {
    pages_object_t *p = (pages_object_t *)self;

    return PyBool_FromLong(pyglue_pages_check(p->pages, p->size) == 0);
}

static PyObject *pages_put_worker(PyObject *self, PyObject *args) {
    pyglue_pages_t *pages = borrowed_writable(self);
    pyglue_worker_entry_t w = {0};
    const char *digest, *path, *key;
    Py_ssize_t digest_len, path_len, key_len;
    unsigned long long number;
    unsigned slot;

    if (pages == NULL ||
        !PyArg_ParseTuple(args, "IKy#IIy#y#:put_worker", &slot, &number, &digest, &digest_len,
                          &w.state, &w.threads, &path, &path_len, &key, &key_len))
        return NULL;
    if (!memories_has_slot(slot, PYGLUE_WORKER_SLOTS) ||
        !memories_has_size("digest", digest_len, sizeof w.digest) ||
        !memories_has_size("key", key_len, sizeof w.key))
        return NULL;
    if (number == 0 || path_len >= (Py_ssize_t)sizeof w.path)
        return PyErr_Format(PyExc_ValueError,
                            "a worker has a number above 0 and a socket path of "
                            "less than %zu bytes",
                            sizeof w.path);
    w.number = number;
    memcpy(w.digest, digest, sizeof w.digest);
    memcpy(w.path, path, (size_t)path_len);
    memcpy(w.key, key, sizeof w.key);
    pyglue_pages_put_worker(pages, slot, &w);
    Py_RETURN_NONE;
}

static PyObject *pages_clear_worker(PyObject *self, PyObject *args) {
    pyglue_pages_t *pages = borrowed_writable(self);
    pyglue_worker_entry_t none = {0};
    unsigned slot;

    if (pages == NULL || !PyArg_ParseTuple(args, "I:clear_worker", &slot) ||
        !memories_has_slot(slot, PYGLUE_WORKER_SLOTS))
        return NULL;
    pyglue_pages_put_worker(pages, slot, &none);
    Py_RETURN_NONE;
}

static PyObject *pages_put_group(PyObject *self, PyObject *args) {
    pyglue_pages_t *pages = borrowed_writable(self);
    pyglue_group_entry_t g = {0};
    const char *digest, *cause;
    Py_ssize_t digest_len, cause_len;
    unsigned slot;

    if (pages == NULL || !PyArg_ParseTuple(args, "Iy#Is#:put_group", &slot, &digest, &digest_len,
                                           &g.state, &cause, &cause_len))
        return NULL;
    if (!memories_has_slot(slot, PYGLUE_GROUP_SLOTS) ||
        !memories_has_size("digest", digest_len, sizeof g.digest))
        return NULL;
    memcpy(g.digest, digest, sizeof g.digest);
    copy_cause(g.cause, cause, cause_len);
    pyglue_pages_put_group(pages, slot, &g);
    Py_RETURN_NONE;
}

static PyObject *pages_clear_group(PyObject *self, PyObject *args) {
    pyglue_pages_t *pages = borrowed_writable(self);
    pyglue_group_entry_t none = {0};
    unsigned slot;

    if (pages == NULL || !PyArg_ParseTuple(args, "I:clear_group", &slot) ||
        !memories_has_slot(slot, PYGLUE_GROUP_SLOTS))
        return NULL;
    pyglue_pages_put_group(pages, slot, &none);
    Py_RETURN_NONE;
}

/* Fills the list of started requests. A list that does not fit is not complete, whatever the
 * caller thought: a request that is missing in it must not be taken for one that never started. */
static int fill_requests(pyglue_obituary_t *obituary, PyObject *sequence) {
    PyObject *list = PySequence_Fast(sequence, "requests is not a sequence of numbers");
    Py_ssize_t count;

    if (list == NULL)
        return -1;
    count = PySequence_Fast_GET_SIZE(list);
    if (count > PYGLUE_OBITUARY_REQUESTS) {
        obituary->complete = 0;
        count = PYGLUE_OBITUARY_REQUESTS;
    }
    for (Py_ssize_t i = 0; i < count && !PyErr_Occurred(); i++)
        obituary->requests[i] = PyLong_AsUnsignedLongLong(PySequence_Fast_GET_ITEM(list, i));
    obituary->count = (uint32_t)count;
    Py_DECREF(list);
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *pages_put_obituary(PyObject *self, PyObject *args) {
    pyglue_pages_t *pages = borrowed_writable(self);
    pyglue_obituary_t obituary = {0};
    unsigned long long number;
    int complete;
    PyObject *requests;
    const char *cause;
    Py_ssize_t cause_len;

    if (pages == NULL || !PyArg_ParseTuple(args, "KpOs#:put_obituary", &number, &complete,
                                           &requests, &cause, &cause_len))
        return NULL;
    obituary.number = number;
    obituary.complete = (uint32_t)complete;
    if (fill_requests(&obituary, requests))
        return NULL;
    copy_cause(obituary.cause, cause, cause_len);
    pyglue_pages_put_obituary(pages, &obituary);
    Py_RETURN_NONE;
}

static PyObject *pages_put_plan(PyObject *self, PyObject *args) {
    pyglue_pages_t *pages = borrowed_writable(self);
    unsigned long long accepted, refused;

    if (pages == NULL || !PyArg_ParseTuple(args, "KK:put_plan", &accepted, &refused))
        return NULL;
    pyglue_pages_put_plan(pages, accepted, refused);
    Py_RETURN_NONE;
}

static PyObject *pages_heartbeat(PyObject *self, PyObject *args) {
    pyglue_pages_t *pages = borrowed_writable(self);
    unsigned long long now_ms;

    if (pages == NULL || !PyArg_ParseTuple(args, "K:heartbeat", &now_ms))
        return NULL;
    pyglue_pages_put_heartbeat(pages, now_ms);
    Py_RETURN_NONE;
}

static PyObject *pages_read_worker(PyObject *self, PyObject *args) {
    pages_object_t *p = (pages_object_t *)self;
    pyglue_worker_entry_t w;
    unsigned slot;

    if (!PyArg_ParseTuple(args, "I:read_worker", &slot) ||
        !memories_has_slot(slot, PYGLUE_WORKER_SLOTS))
        return NULL;
    if (!pyglue_pages_get_worker(p->pages, slot, &w))
        Py_RETURN_NONE;
    return Py_BuildValue("Ky#IIyy#", (unsigned long long)w.number, (const char *)w.digest,
                         (Py_ssize_t)sizeof w.digest, w.state, w.threads, w.path,
                         (const char *)w.key, (Py_ssize_t)sizeof w.key);
}

static PyObject *pages_read_group(PyObject *self, PyObject *args) {
    pages_object_t *p = (pages_object_t *)self;
    pyglue_group_entry_t g;
    const char *digest;
    Py_ssize_t digest_len;

    if (!PyArg_ParseTuple(args, "y#:read_group", &digest, &digest_len) ||
        !memories_has_size("digest", digest_len, sizeof g.digest))
        return NULL;
    if (!pyglue_pages_find_group(p->pages, (const uint8_t *)digest, &g))
        Py_RETURN_NONE;
    return Py_BuildValue("Is", g.state, g.cause);
}

static PyObject *list_of_numbers(const uint64_t *numbers, unsigned count) {
    PyObject *list = PyList_New(0);

    for (unsigned i = 0; list != NULL && i < count; i++) {
        PyObject *number = PyLong_FromUnsignedLongLong(numbers[i]);

        if (number == NULL || PyList_Append(list, number))
            Py_CLEAR(list);
        Py_XDECREF(number);
    }
    return list;
}

static PyObject *pages_find_obituary(PyObject *self, PyObject *args) {
    pages_object_t *p = (pages_object_t *)self;
    pyglue_obituary_t obituary;
    unsigned long long number;

    if (!PyArg_ParseTuple(args, "K:find_obituary", &number))
        return NULL;
    if (!pyglue_pages_find_obituary(p->pages, number, &obituary))
        Py_RETURN_NONE;
    return Py_BuildValue("NNs", PyBool_FromLong(obituary.complete != 0),
                         list_of_numbers(obituary.requests, obituary.count), obituary.cause);
}

static PyObject *pages_read_plan(PyObject *self, PyObject *Py_UNUSED(none)) {
    const pyglue_pages_t *pages = ((pages_object_t *)self)->pages;

    return Py_BuildValue("KKK", (unsigned long long)pyglue_pages_plan_accepted(pages),
                         (unsigned long long)pyglue_pages_plan_refused(pages),
                         (unsigned long long)pyglue_pages_heartbeat(pages));
}

static PyMethodDef pages_methods[] = {
    {"init", pages_init, METH_NOARGS, "Make zeroed memory valid, empty pages."},
    {"check", pages_check, METH_NOARGS, "Is it of this layout and version?"},
    {"put_worker", pages_put_worker, METH_VARARGS,
     "put_worker(slot, number, digest, state, threads, path, key)"},
    {"clear_worker", pages_clear_worker, METH_VARARGS, "clear_worker(slot)"},
    {"put_group", pages_put_group, METH_VARARGS, "put_group(slot, digest, state, cause)"},
    {"clear_group", pages_clear_group, METH_VARARGS, "clear_group(slot)"},
    {"put_obituary", pages_put_obituary, METH_VARARGS,
     "put_obituary(number, complete, requests, cause)"},
    {"put_plan", pages_put_plan, METH_VARARGS, "put_plan(accepted, refused)"},
    {"heartbeat", pages_heartbeat, METH_VARARGS, "heartbeat(now_ms)"},
    {"read_worker", pages_read_worker, METH_VARARGS,
     "read_worker(slot) -> (number, digest, state, threads, path, key) or None"},
    {"read_group", pages_read_group, METH_VARARGS, "read_group(digest) -> (state, cause) or None"},
    {"find_obituary", pages_find_obituary, METH_VARARGS,
     "find_obituary(number) -> (complete, requests, cause) or None"},
    {"read_plan", pages_read_plan, METH_NOARGS, "read_plan() -> (accepted, refused, heartbeat)"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot pages_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t) "The pages memory; made by map()."},
    {Py_tp_dealloc, (void *)(uintptr_t)pages_dealloc},
    {Py_tp_traverse, (void *)(uintptr_t)memories_traverse},
    {Py_tp_methods, pages_methods},
    {0, NULL},
};

PyType_Spec pages_spec = {
    .name = "pyglue._pages.Pages",
    .basicsize = sizeof(pages_object_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = pages_slots,
};

PyObject *pages_map(PyTypeObject *type, int fd, int writable) {
    struct stat st;
    pages_object_t *p;
    void *memory;

    if (fstat(fd, &st) == -1)
        return PyErr_SetFromErrno(PyExc_OSError);
    if (st.st_size < (off_t)pyglue_pages_size())
        return PyErr_Format(PyExc_ValueError, "pages have %zu bytes, this file has %lld",
                            pyglue_pages_size(), (long long)st.st_size);
    memory = mmap(NULL, pyglue_pages_size(), writable ? PROT_READ | PROT_WRITE : PROT_READ,
                  MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return PyErr_SetFromErrno(PyExc_OSError);
    p = (pages_object_t *)type->tp_alloc(type, 0);
    if (p == NULL) {
        munmap(memory, pyglue_pages_size());
        return NULL;
    }
    p->pages = memory;
    p->size = pyglue_pages_size();
    p->writable = writable;
    return (PyObject *)p;
}
