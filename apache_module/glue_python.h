/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the configured Python, its libpython and an engine for it, and opens both in this child. */
#ifndef GLUE_PYTHON_H
#define GLUE_PYTHON_H

#include "glue.h"

typedef struct glue_python {
    const char *executable; /* the configured Python */
    const char *package;    /* folder of the package pyglue that the engine belongs to */
    const pyglue_engine_ops_t *engine;
} glue_python_t;

/* home: WSGIPythonHome, or NULL. Starts that Python once, as this child's user, to ask what it is;
 * then loads libpython and the engine. Blocks for a moment, ten seconds at most.
 * NULL: *python is filled. Otherwise what is wrong and what to do, as one sentence for the log.
 * *is_final: asking again in this process is useless. pool: child's. Only one thread at a time. */
const char *glue_python_open(glue_python_t *python, int *is_final, const char *home,
                             apr_pool_t *pool);

#endif
