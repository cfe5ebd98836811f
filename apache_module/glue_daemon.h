/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a snapshot in a worker of a process group: frames in, glue_host operations out. */
#ifndef GLUE_DAEMON_H
#define GLUE_DAEMON_H

#include "glue_host.h"

/* In child_init, once this child has its placement: readies what requests to workers need. */
void glue_daemon_child_init(apr_pool_t *pchild, server_rec *s);

/* Blocks until the exchange is over. 0: *outcome is filled and what was written has been handed
 * to the host. Otherwise nothing was started and nothing sent to the client:
 *   PYGLUE_E_REFUSED  no worker had a thread within the time, too many wait, or httpd ends (503,
 *                     Retry-After)
 *   PYGLUE_E_GONE     the client left while the request waited (any status: nobody reads it)
 *   PYGLUE_E_TIMEOUT  the worker took it and did not answer in time (504)
 *   PYGLUE_E_STATE    the group is disabled, or nothing can start it (500)
 *   PYGLUE_E_IO, PYGLUE_E_PROTOCOL  its worker died or broke the wire's rules (502)
 * The reason has been logged. A worker that fails after the head gives outcome PYGLUE_CUT.
 * Any thread of a child. The snapshot's process_group names the group. */
int glue_daemon_run(pyglue_outcome_t *outcome, const glue_group_t *group, glue_host_t *host,
                    const pyglue_snapshot_t *snapshot);

#endif
