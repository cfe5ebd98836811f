/* SPDX-License-Identifier: Apache-2.0 */
/* All that the httpd parent does after the configuration was read: starts the supervisor, sends it
 * each plan, lists children by plan, revives a dead or hung supervisor, ends it at last.
 * And what each child gets from it: pages, rows, its row. */
#ifndef GLUE_SUPERVISOR_H
#define GLUE_SUPERVISOR_H

#include "glue.h"

#include <ap_mpm.h>
#include <mpm_common.h>

#include "placement.h"

/* A child's view of the placement memories; frozen after child_init. */
typedef struct glue_placement {
    const pyglue_pages_t *pages; /* NULL: no daemon group is configured */
    pyglue_rows_t *rows;
    int row;          /* -1: serve without placement */
    uint64_t plan;    /* under which this child was born */
    uid_t supervisor; /* the uid that must have called listen on workers' sockets */
} glue_placement_t;

/* Hooks of httpd; run in the parent, but for child_init. */
int glue_supervisor_post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                                server_rec *s);
void glue_supervisor_child_init(apr_pool_t *pchild, server_rec *s);
void glue_supervisor_child_status(server_rec *s, pid_t pid, ap_generation_t gen, int slot,
                                  mpm_child_status status);
int glue_supervisor_monitor(apr_pool_t *p, server_rec *s);

/* In a child that has placement. Late: no sign of life of a supervisor for some seconds. */
int glue_supervisor_is_late(void);
const glue_placement_t *glue_placement(void);

#endif
