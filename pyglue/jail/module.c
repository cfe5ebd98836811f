/* SPDX-License-Identifier: Apache-2.0 */
/* Binds the jail to Python: arguments to a plan, a refused plan to ValueError, a report to words.
 * The only file here that knows Python; it decides nothing. Up: pyglue.supervisor. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "jail.h"

/* Everything that a plan borrows, alive until the call is over. */
struct loan {
    PyObject *argv, *env, *fds, *groups, *rlimits,
        *cgroups; /* tuples: nobody can change them meanwhile */
    char **argv_texts, **env_texts;
    int *fd_numbers, *cgroup_numbers;
    gid_t *group_ids;
    jail_limit_t *limits;
};

static void loan_end(struct loan *loan) {
    PyMem_Free(loan->argv_texts);
    PyMem_Free(loan->env_texts);
    PyMem_Free(loan->fd_numbers);
    PyMem_Free(loan->cgroup_numbers);
    PyMem_Free(loan->group_ids);
    PyMem_Free(loan->limits);
    Py_XDECREF(loan->argv);
    Py_XDECREF(loan->env);
    Py_XDECREF(loan->fds);
    Py_XDECREF(loan->groups);
    Py_XDECREF(loan->rlimits);
    Py_XDECREF(loan->cgroups);
}

/* Makes *tuple of a sequence, and room for its items and one more, zeroed. */
static void *room_for(PyObject **tuple, PyObject *sequence, size_t item) {
    void *room;

    *tuple = PySequence_Tuple(sequence);
    if (*tuple == NULL)
        return NULL;
    room = PyMem_Calloc((size_t)PyTuple_GET_SIZE(*tuple) + 1, item);
    return room != NULL ? room : PyErr_NoMemory();
}

/* NULL-terminated texts, borrowed from the bytes objects in *tuple; NUL in a text is refused. */
static char **texts(PyObject **tuple, PyObject *sequence) {
    char **room = room_for(tuple, sequence, sizeof *room);

    for (Py_ssize_t i = 0; room != NULL && i < PyTuple_GET_SIZE(*tuple); i++)
        if (PyBytes_AsStringAndSize(PyTuple_GET_ITEM(*tuple, i), &room[i], NULL)) {
            PyMem_Free(room);
            return NULL;
        }
    return room;
}

static int *descriptors(PyObject **tuple, PyObject *sequence) {
    int *room = room_for(tuple, sequence, sizeof *room);

    for (Py_ssize_t i = 0; room != NULL && i < PyTuple_GET_SIZE(*tuple); i++)
        if ((room[i] = PyObject_AsFileDescriptor(PyTuple_GET_ITEM(*tuple, i))) == -1) {
            PyMem_Free(room);
            return NULL;
        }
    return room;
}

/* "O&": a uid or gid. -1 would mean "leave it as it is" to the kernel, and is refused. */
static int convert_id(PyObject *number, void *id) {
    unsigned long value = PyLong_AsUnsignedLong(number);

    if (value == (unsigned long)-1 && PyErr_Occurred())
        return 0;
    if (value >= UINT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "not the number of a user or group");
        return 0;
    }
    *(unsigned *)id = (unsigned)value;
    return 1;
}

static gid_t *group_ids(PyObject **tuple, PyObject *sequence) {
    gid_t *room = room_for(tuple, sequence, sizeof *room);

    for (Py_ssize_t i = 0; room != NULL && i < PyTuple_GET_SIZE(*tuple); i++)
        if (!convert_id(PyTuple_GET_ITEM(*tuple, i), &room[i])) {
            PyMem_Free(room);
            return NULL;
        }
    return room;
}

/* "O&": a path as bytes, or None; borrowed from the argument. */
static int convert_path(PyObject *bytes, void *path) {
    *(char **)path = NULL;
    return bytes == Py_None || PyBytes_AsStringAndSize(bytes, (char **)path, NULL) == 0;
}

/* "O&": a limit; resource.RLIM_INFINITY is -1 to Python. */
static int convert_limit(PyObject *number, void *limit) {
    long long value = PyLong_AsLongLong(number);

    if (value == -1 && PyErr_Occurred())
        return 0;
    if (value < -1) {
        PyErr_SetString(PyExc_ValueError, "a limit is 0 or more, or RLIM_INFINITY");
        return 0;
    }
    *(uint64_t *)limit = (uint64_t)value; /* -1 becomes the kernel's RLIM64_INFINITY */
    return 1;
}

static jail_limit_t *limits(PyObject **tuple, PyObject *sequence) {
    jail_limit_t *room = room_for(tuple, sequence, sizeof *room);

    for (Py_ssize_t i = 0; room != NULL && i < PyTuple_GET_SIZE(*tuple); i++) {
        PyObject *row = PySequence_Tuple(PyTuple_GET_ITEM(*tuple, i));
        int is_read =
            row != NULL && PyArg_ParseTuple(row, "iO&O&:rlimits", &room[i].resource, convert_limit,
                                            &room[i].soft, convert_limit, &room[i].hard);
        Py_XDECREF(row);
        if (!is_read) {
            PyMem_Free(room);
            return NULL;
        }
    }
    return room;
}

/* Turns argv, env, fds, groups, rlimits and cgroup_procs into the plan's arrays, which `loan`
 * keeps. */
static int fill(jail_plan_t *plan, struct loan *loan, PyObject *const sequences[6]) {
    if ((loan->argv_texts = texts(&loan->argv, sequences[0])) == NULL ||
        (loan->env_texts = texts(&loan->env, sequences[1])) == NULL ||
        (loan->fd_numbers = descriptors(&loan->fds, sequences[2])) == NULL ||
        (loan->group_ids = group_ids(&loan->groups, sequences[3])) == NULL ||
        (loan->limits = limits(&loan->rlimits, sequences[4])) == NULL ||
        (loan->cgroup_numbers = descriptors(&loan->cgroups, sequences[5])) == NULL)
        return -1;
    plan->argv = loan->argv_texts;
    plan->envp = loan->env_texts;
    plan->fds = loan->fd_numbers;
    plan->fd_count = (unsigned)PyTuple_GET_SIZE(loan->fds);
    plan->groups = loan->group_ids;
    plan->group_count = (unsigned)PyTuple_GET_SIZE(loan->groups);
    plan->limits = loan->limits;
    plan->limit_count = (unsigned)PyTuple_GET_SIZE(loan->rlimits);
    plan->cgroups = loan->cgroup_numbers;
    plan->cgroup_count = (unsigned)PyTuple_GET_SIZE(loan->cgroups);
    return 0;
}

static PyObject *spawn_checked(jail_plan_t *plan) {
    const char *wrong = jail_check(plan);
    jail_child_t child;
    int rv;

    if (wrong != NULL) {
        PyErr_SetString(PyExc_ValueError, wrong);
        return NULL;
    }
    rv = jail_spawn(&child, plan);
    if (rv < 0) {
        errno = -rv;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return Py_BuildValue("iii", (int)child.pid, child.pidfd, child.report);
}

static PyObject *module_spawn(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs) {
    static char *names[] = {
        "argv",   "executable",   "env",          "fds",           "uid",       "gid",
        "groups", "privileged",   "umask",        "home",          "chroot",    "rlimits",
        "nice",   "no_new_privs", "cgroup_procs", "home_optional", "otherwise", NULL};
    jail_plan_t plan = {.umask = -1, .no_new_privs = 1};
    PyObject *sequences[6] = {NULL};
    struct loan loan = {0};
    PyObject *none = PyTuple_New(0);
    PyObject *result = NULL;

    if (none == NULL)
        return NULL;
    sequences[4] = sequences[5] = none;
    if (PyArg_ParseTupleAndKeywords(
            args, kwargs, "OyOOO&O&Op|$iO&O&OipOpO&:spawn", names, &sequences[0], &plan.executable,
            &sequences[1], &sequences[2], convert_id, &plan.uid, convert_id, &plan.gid,
            &sequences[3], &plan.privileged, &plan.umask, convert_path, &plan.home, convert_path,
            &plan.chroot, &sequences[4], &plan.nice, &plan.no_new_privs, &sequences[5],
            &plan.home_optional, convert_path, &plan.otherwise) &&
        fill(&plan, &loan, sequences) == 0)
        result = spawn_checked(&plan);
    loan_end(&loan);
    Py_DECREF(none);
    return result;
}

static PyObject *module_steps(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
    PyObject *names = PyList_New(0);

    for (unsigned i = 0; names != NULL && i < jail_step_count; i++) {
        PyObject *name = PyUnicode_FromString(jail_steps[i].name);

        if (name == NULL || PyList_Append(names, name))
            Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

static PyObject *module_describe(PyObject *Py_UNUSED(module), PyObject *args) {
    jail_report_t report;
    const char *bytes;
    Py_ssize_t size;

    if (!PyArg_ParseTuple(args, "y#:describe", &bytes, &size))
        return NULL;
    if (size != (Py_ssize_t)sizeof report)
        return PyErr_Format(PyExc_ValueError, "a report has %zu bytes, not %zd", sizeof report,
                            size);
    memcpy(&report, bytes, sizeof report);
    if (report.step >= jail_step_count)
        return PyErr_Format(PyExc_ValueError, "there is no step %u", report.step);
    return Py_BuildValue("si", jail_steps[report.step].name, (int)report.error);
}

static PyMethodDef methods[] = {
    {"spawn", (PyCFunction)(void (*)(void))module_spawn, METH_VARARGS | METH_KEYWORDS,
     "spawn(*, argv, executable, env, fds, uid, gid, groups, privileged, umask=-1, home=None,\n"
     "      chroot=None, rlimits=(), nice=0, no_new_privs=True, cgroup_procs=(),\n"
     "      home_optional=False, otherwise=None)\n"
     "-> (pid, pidfd or -1, report descriptor)"},
    {"steps", module_steps, METH_NOARGS, "steps() -> names, in their order"},
    {"describe", module_describe, METH_VARARGS,
     "describe(report) -> (step, errno); errno 0: the step took no effect"},
    {NULL, NULL, 0, NULL},
};

static int module_exec(PyObject *module) {
    return PyModule_AddIntConstant(module, "REPORT_SIZE", sizeof(jail_report_t)) ||
                   PyModule_AddIntConstant(module, "EXIT_STATUS", JAIL_EXIT)
               ? -1
               : 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)(uintptr_t)module_exec},
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_jail",
    .m_doc = "The privileged step: starts a program as another user.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__jail(void);
PyMODINIT_FUNC PyInit__jail(void) {
    return PyModuleDef_Init(&module_def);
}
