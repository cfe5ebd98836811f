/* SPDX-License-Identifier: Apache-2.0 */
/* wsgi.file_wrapper: the type FileWrapper, and the shortcut by which a regular file that is
 * returned in it leaves as a file. Anything else is read in blocks, like any iterable. */
#include "eng.h"

#include <fcntl.h>
#include <sys/stat.h>

enum { BLOCK_SIZE = 8192 };

typedef struct file {
    PyObject_HEAD PyObject *filelike;
    Py_ssize_t blksize;
    PyObject *dict;
} file_t;

static file_t *file_of(PyObject *self) {
    return (file_t *)(void *)self;
}

static int file_init(PyObject *self, PyObject *args, PyObject *keywords) {
    static char *names[] = {"filelike", "blksize", NULL};
    Py_ssize_t blksize = BLOCK_SIZE;
    PyObject *filelike;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|n:FileWrapper", names, &filelike, &blksize))
        return -1;
    Py_BEGIN_CRITICAL_SECTION(self);
    Py_XSETREF(file_of(self)->filelike, Py_NewRef(filelike));
    file_of(self)->blksize = blksize;
    Py_END_CRITICAL_SECTION();
    return 0;
}

/* What it wraps now, a new reference; NULL without an exception: it was not initialised. */
static PyObject *filelike_new(PyObject *self) {
    PyObject *filelike;

    Py_BEGIN_CRITICAL_SECTION(self);
    filelike = Py_XNewRef(file_of(self)->filelike);
    Py_END_CRITICAL_SECTION();
    return filelike;
}

static PyObject *file_next(PyObject *self) {
    PyObject *filelike = filelike_new(self);
    PyObject *block;
    int is_empty;

    if (filelike == NULL) {
        PyErr_SetString(PyExc_ValueError, "FileWrapper was not initialised");
        return NULL;
    }
    block = PyObject_CallMethod(filelike, "read", "n", file_of(self)->blksize);
    Py_DECREF(filelike);
    if (block == NULL)
        return NULL;
    is_empty = PyObject_Not(block);
    if (is_empty)
        Py_CLEAR(block); /* NULL without an exception: the end */
    return block;
}

static PyObject *file_close(PyObject *self, PyObject *unused) {
    PyObject *filelike = filelike_new(self);
    bool has_filelike = filelike != NULL;
    PyObject *function, *done;

    (void)unused;
    function = has_filelike ? PyObject_GetAttrString(filelike, "close") : NULL;
    Py_XDECREF(filelike);
    if (function == NULL) {
        if (has_filelike && !PyErr_ExceptionMatches(PyExc_AttributeError))
            return NULL;
        PyErr_Clear(); /* a file-like object without close() has nothing to close */
        Py_RETURN_NONE;
    }
    done = PyObject_CallNoArgs(function);
    Py_DECREF(function);
    return done;
}

static int file_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(file_of(self)->filelike);
    Py_VISIT(file_of(self)->dict);
    return 0;
}

static int file_clear(PyObject *self) {
    Py_CLEAR(file_of(self)->filelike);
    Py_CLEAR(file_of(self)->dict);
    return 0;
}

static void file_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    file_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef file_methods[] = {
    {"close", file_close, METH_NOARGS, "Closes the file-like object, if it can be closed."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef file_members[] = {
    {"filelike", T_OBJECT, offsetof(file_t, filelike), READONLY, NULL},
    {"blksize", T_PYSSIZET, offsetof(file_t, blksize), READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(file_t, dict), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot file_slots[] = {
    {Py_tp_doc, "FileWrapper(filelike, blksize=8192): wsgi.file_wrapper of PEP 3333."},
    {Py_tp_init, file_init},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, file_next},
    {Py_tp_methods, file_methods},
    {Py_tp_members, file_members},
    {Py_tp_traverse, file_traverse},
    {Py_tp_clear, file_clear},
    {Py_tp_dealloc, file_dealloc},
    {0, NULL},
};

PyType_Spec eng_file_spec = {
    .name = "pyglue._engine.FileWrapper",
    .basicsize = sizeof(file_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = file_slots,
};

/* The shortcut. */

/* A number that a method of the file answers; -1: it has none. */
static int64_t ask(PyObject *filelike, PyObject *name) {
    PyObject *answer = PyObject_CallMethodNoArgs(filelike, name);
    int64_t number = answer != NULL ? PyLong_AsLongLong(answer) : -1;

    Py_XDECREF(answer);
    /* No such method, or not for this object (io.UnsupportedOperation): it is read in blocks. */
    PyErr_Clear();
    return number;
}

typedef struct extent {
    int fd;
    int64_t offset, len;
} extent_t;

/* Is what is read something else than what the descriptor leads to? gzip, bz2 and lzma tell that of
 * the compressed file; under a buffer of io's own lies a plain file, or who knows what. */
static bool is_decoded(eng_state_t *state, PyObject *filelike) {
    PyObject *raw;
    bool is_plain;

    if (PyObject_IsInstance(filelike, state->buffered) <= 0) {
        PyErr_Clear(); /* whatever its class is: no buffer of io */
        return false;
    }
    raw = PyObject_GetAttr(filelike, state->names[ENG_NAME_RAW]);
    is_plain = raw != NULL && PyObject_IsInstance(raw, state->raw) > 0;
    Py_XDECREF(raw);
    PyErr_Clear(); /* it has none: it is read in blocks */
    return !is_plain;
}

/* Files of /proc have no size, whatever is in them. */
static bool is_sendable(int fd, struct stat *file) {
    return fstat(fd, file) == 0 && S_ISREG(file->st_mode) && file->st_size > 0 &&
           (fcntl(fd, F_GETFL) & O_ACCMODE) != O_WRONLY;
}

/* What is left of a regular file from its position on; false: not such a file. */
static bool measure(eng_state_t *state, PyObject *filelike, extent_t *extent) {
    int64_t fd = ask(filelike, state->names[ENG_NAME_FILENO]);
    struct stat file;

    if (fd < 0 || fd > INT32_MAX || !is_sendable((int)fd, &file) || is_decoded(state, filelike))
        return false;
    extent->fd = (int)fd;
    extent->offset = ask(filelike, state->names[ENG_NAME_TELL]);
    extent->len = file.st_size > extent->offset ? file.st_size - extent->offset : 0;
    return extent->offset >= 0;
}

/* A subclass that iterates in its own way means it. */
static bool is_plain_wrapper(const eng_state_t *state, PyObject *result) {
    return PyObject_TypeCheck(result, state->file_type) &&
           Py_TYPE(result)->tp_iter == state->file_type->tp_iter &&
           Py_TYPE(result)->tp_iternext == state->file_type->tp_iternext;
}

/* 1, 0 or -1 as eng_file_send. */
static int send_exclusive(eng_request_t *request, extent_t extent) {
    /* Less than was announced is no file to the host, whose response would be whole. */
    if (!request->has_head || request->is_given || request->length > extent.len)
        return 0;
    if (request->length < 0 && eng_head_add_length(request, extent.len))
        return -1;
    extent.len = request->length;
    request->taken = extent.len;
    if (!request->is_bodiless)
        eng_host_send_file(request, extent.fd, extent.offset, extent.len);
    return 1;
}

int eng_file_send(eng_state_t *state, eng_request_t *request, PyObject *result) {
    PyObject *filelike;
    extent_t extent;
    int rv = 0;

    if (!is_plain_wrapper(state, result) || !request->has_head || request->is_given ||
        (filelike = filelike_new(result)) == NULL)
        return 0;
    if (measure(state, filelike, &extent)) {
        Py_BEGIN_CRITICAL_SECTION(request);
        rv = send_exclusive(request, extent);
        Py_END_CRITICAL_SECTION();
    }
    Py_DECREF(filelike);
    return rv;
}
