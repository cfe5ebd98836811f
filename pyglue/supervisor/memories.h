/* SPDX-License-Identifier: Apache-2.0 */
/* pyglue._pages in C: the shared memories, bound to the supervisor.
 *
 * Pages are written (pyglue/bridge/placement.h orders the writes), rows and workers' records only
 * ever copied. What httpd's children and workers can write is never mapped here: one pread into
 * private memory, then the bridge's check, so that neither a shrunken file nor a value changed
 * after its check can reach root's process. Nothing is decided here: who is published where is
 * pages.py's.
 *
 *   memories.c  the module: its functions, records, constants; checks of arguments
 *   pages.c     the type Pages
 *   rows.c      the type Rows
 *
 * Everything runs in the supervisor's one thread, with the GIL. */
#ifndef PYGLUE_SUPERVISOR_MEMORIES_H
#define PYGLUE_SUPERVISOR_MEMORIES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* The types; docs/plan.md 3 and _pages.pyi tell what their methods are. */
extern PyType_Spec pages_spec;
extern PyType_Spec rows_spec;

/* A new object that maps the pages behind fd, which stays the caller's; NULL with an exception:
 * OSError, or ValueError where the file is too short for them. */
PyObject *pages_map(PyTypeObject *type, int fd, int writable);
/* A new object that reads the rows behind fd, which stays the caller's and open as long as the
 * object lives. NULL with an exception. */
PyObject *rows_of(PyTypeObject *type, int fd);

/* Is it one of so many slots, and has it that many bytes? 0 with an exception. */
int memories_has_slot(unsigned slot, unsigned slots);
int memories_has_size(const char *what, Py_ssize_t is, Py_ssize_t wanted);
/* tp_traverse of both: all that they refer to is their type. */
int memories_traverse(PyObject *self, visitproc visit, void *arg);

#endif
