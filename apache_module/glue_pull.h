/* SPDX-License-Identifier: Apache-2.0 */
/* A file that a worker announced without passing it: httpd's filters ask for its bytes when they
 * want them, and the worker is asked ahead of them (docs/wire.md 8). */
#ifndef GLUE_PULL_H
#define GLUE_PULL_H

#include "glue_exchange.h"

/* Sends the file as the rest of the response. 0: END is what the worker says next. */
int glue_pull_file(glue_exchange_t *x, const pyglue_file_t *file);

#endif
