/* SPDX-License-Identifier: Apache-2.0 */
/* The worker in Python's hands: the type pyglue._engine.Worker, for pyglue/worker/start.py alone.
 * The module's exec slot calls eng_serve_exec once; nothing else of the engine knows of it. */
#ifndef PYGLUE_ENG_SERVE_H
#define PYGLUE_ENG_SERVE_H

#include <Python.h>

/* Adds the type to the module. 0, or -1 with an exception set. GIL held. */
int eng_serve_exec(PyObject *module);

#endif
