/* SPDX-License-Identifier: Apache-2.0 */
/* From httpd's parent to the process of a supervisor: what is executed, with which descriptors and
 * environment (docs/plan.md 1), and whether root may execute it (TENANTS 2.2). When one is started,
 * and what follows from its end, is glue_supervisor.c's. */
#ifndef GLUE_LAUNCH_H
#define GLUE_LAUNCH_H

#include "glue.h"

/* The descriptors stay the caller's. */
typedef struct glue_launch {
    apr_uint64_t epoch;
    int log;   /* the main error log */
    int pages; /* read-write */
    int rows;  /* read-only */
} glue_launch_t;

/* Parent. 0: *pid was forked and *channel, the caller's, is our end of the socket pair. Otherwise
 * nothing was started, and why was logged. pool: scratch. */
int glue_launch(pid_t *pid, int *channel, server_rec *s, const glue_launch_t *with,
                apr_pool_t *pool);

#endif
