/* SPDX-License-Identifier: Apache-2.0 */
/* Binds the shared memories to the supervisor: pages are written (pyglue/bridge/placement.h orders
 * the writes), rows and workers' records only ever copied. What httpd's children and workers can
 * write is never mapped here: one pread into private memory, then the bridge's check, so that
 * neither a shrunken file nor a value changed after its check can reach root's process.
 * Decides nothing: who is published where is pages.py's. Up: pages.py. Down: the bridge. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <sys/mman.h>
#include <sys/stat.h>

#include "placement.h"
#include "record.h"

typedef struct pages_state {
    PyTypeObject *pages_type;
    PyTypeObject *rows_type;
} pages_state_t;

/* Pages. */

typedef struct pages_object {
    PyObject_HEAD pyglue_pages_t *pages; /* our mapping, never NULL once made */
    size_t size;
    int writable;
} pages_object_t;

static int object_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    return 0;
}

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

static int has_slot(unsigned slot, unsigned slots) {
    if (slot < slots)
        return 1;
    PyErr_Format(PyExc_IndexError, "slot %u is not one of 0 to %u", slot, slots - 1);
    return 0;
}

static int has_size(const char *what, Py_ssize_t is, Py_ssize_t wanted) {
    if (is == wanted)
        return 1;
    PyErr_Format(PyExc_ValueError, "a %s has %zd bytes, not %zd", what, wanted, is);
    return 0;
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
    if (!has_slot(slot, PYGLUE_WORKER_SLOTS) || !has_size("digest", digest_len, sizeof w.digest) ||
        !has_size("key", key_len, sizeof w.key))
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
        !has_slot(slot, PYGLUE_WORKER_SLOTS))
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
    if (!has_slot(slot, PYGLUE_GROUP_SLOTS) || !has_size("digest", digest_len, sizeof g.digest))
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
        !has_slot(slot, PYGLUE_GROUP_SLOTS))
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

    if (!PyArg_ParseTuple(args, "I:read_worker", &slot) || !has_slot(slot, PYGLUE_WORKER_SLOTS))
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
        !has_size("digest", digest_len, sizeof g.digest))
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
    {Py_tp_traverse, (void *)(uintptr_t)object_traverse},
    {Py_tp_methods, pages_methods},
    {0, NULL},
};

static PyType_Spec pages_spec = {
    .name = "pyglue._pages.Pages",
    .basicsize = sizeof(pages_object_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = pages_slots,
};

static PyObject *module_map(PyObject *module, PyObject *args) {
    pages_state_t *state = PyModule_GetState(module);
    struct stat st;
    pages_object_t *p;
    void *memory;
    int fd, writable;

    if (!PyArg_ParseTuple(args, "ip:map", &fd, &writable))
        return NULL;
    if (fstat(fd, &st) == -1)
        return PyErr_SetFromErrno(PyExc_OSError);
    if (st.st_size < (off_t)pyglue_pages_size())
        return PyErr_Format(PyExc_ValueError, "pages have %zu bytes, this file has %lld",
                            pyglue_pages_size(), (long long)st.st_size);
    memory = mmap(NULL, pyglue_pages_size(), writable ? PROT_READ | PROT_WRITE : PROT_READ,
                  MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return PyErr_SetFromErrno(PyExc_OSError);
    p = (pages_object_t *)state->pages_type->tp_alloc(state->pages_type, 0);
    if (p == NULL) {
        munmap(memory, pyglue_pages_size());
        return NULL;
    }
    p->pages = memory;
    p->size = pyglue_pages_size();
    p->writable = writable;
    return (PyObject *)p;
}

/* Rows. */

/* httpd's children can write all of this memory, its count included, and may shrink its file. */
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

    if (!PyArg_ParseTuple(args, "IK:sum", &slot, &number) || !has_slot(slot, PYGLUE_WORKER_SLOTS))
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
        !has_slot(slot, PYGLUE_GROUP_SLOTS) || !has_size("digest", digest_len, PYGLUE_DIGEST_SIZE))
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
        if (!has_slot(slot, PYGLUE_GROUP_SLOTS) ||
            !has_size("digest", PyBytes_GET_SIZE(name), PYGLUE_DIGEST_SIZE))
            return -1;
        count = pyglue_rows_waiting(rows, slot, (const uint8_t *)PyBytes_AS_STRING(name));
    } else {
        unsigned long long number = PyLong_AsUnsignedLongLong(name);

        if (PyErr_Occurred() || !has_slot(slot, PYGLUE_WORKER_SLOTS))
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
    {Py_tp_traverse, (void *)(uintptr_t)object_traverse},
    {Py_tp_methods, rows_methods},
    {0, NULL},
};

static PyType_Spec rows_spec = {
    .name = "pyglue._pages.Rows",
    .basicsize = sizeof(rows_object_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = rows_slots,
};

static PyObject *module_rows(PyObject *module, PyObject *args) {
    pages_state_t *state = PyModule_GetState(module);
    rows_object_t *r;
    struct stat st;
    int fd;

    if (!PyArg_ParseTuple(args, "i:rows", &fd))
        return NULL;
    if (fstat(fd, &st) == -1)
        return PyErr_SetFromErrno(PyExc_OSError);
    r = (rows_object_t *)state->rows_type->tp_alloc(state->rows_type, 0);
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

/* The module. */

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
    pages_state_t *state = PyModule_GetState(module);

    for (size_t i = 0; i < sizeof constants / sizeof constants[0]; i++)
        if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value))
            return -1;
    if (add_type(module, &state->pages_type, &pages_spec))
        return -1;
    return add_type(module, &state->rows_type, &rows_spec);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
    pages_state_t *state = PyModule_GetState(module);

    Py_VISIT(state->pages_type);
    Py_VISIT(state->rows_type);
    return 0;
}

static int module_clear(PyObject *module) {
    pages_state_t *state = PyModule_GetState(module);

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
    .m_size = sizeof(pages_state_t),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
};

PyMODINIT_FUNC PyInit__pages(void);
PyMODINIT_FUNC PyInit__pages(void) {
    return PyModuleDef_Init(&module_def);
}
