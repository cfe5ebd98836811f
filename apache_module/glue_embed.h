/* SPDX-License-Identifier: Apache-2.0 */
/* The engine in this httpd child: finds and opens libpython and the engine, runs snapshots. */
#ifndef GLUE_EMBED_H
#define GLUE_EMBED_H

#include "glue_host.h"

/* Once in child_init: starts the thread of our own that sleeps until Python is needed, then
 * initialises it and at the child's end finalises it (HTTPD 5). Preloads what the configuration
 * names. */
void glue_embed_child_init(apr_pool_t *pchild, server_rec *s);

/* 0: *outcome is filled. PYGLUE_E_STATE: Python is restricted or could not be opened: 500, and
 * logged. */
int glue_embed_run(pyglue_outcome_t *outcome, glue_host_t *host, const pyglue_snapshot_t *snapshot);

#endif
