/* SPDX-License-Identifier: Apache-2.0 */
/* The installation that this mod_pyglue.so belongs to: its package folder and its Python. */
#ifndef GLUE_INSTALL_H
#define GLUE_INSTALL_H

#include "glue.h"

/* The folder of the package pyglue in which mod_pyglue.so lies, by the loader's own knowledge: a
 * path from the build would be stale, as packages are built in one place and used in another.
 * Absolute, symbolic links resolved; NULL: it cannot be told. pool: any. */
const char *glue_install_package(apr_pool_t *pool);

/* The Python that the package was installed for: PREFIX/bin/pythonX.Y, where the package is
 * PREFIX/lib/pythonX.Y/.../pyglue. NULL: none is there. Looks neither at PATH nor at
 * WSGIPythonHome. */
const char *glue_install_python(apr_pool_t *pool);

/* The standard library of that Python: beside the real folder of the executable, which may be a
 * link out of an environment, by the version that our package lies below. NULL: none is there. */
const char *glue_install_library(const char *python, apr_pool_t *pool);

#endif
